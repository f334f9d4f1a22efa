"""The conversion benchmark's models are what they are called, and its tables say what was found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import conversion
import conversion_tables
import converted
import numpy as np
import page
import pytest
import subjects
import torch
import zoo
from conversion_tables import PLAIN, Row, Setting

from scanflow_serve.runtime.host.profile import profile_host

ONE, TWO = "batch 1, 1 thread", "batch 1, 2 threads"


def row(model: str, name: str, p50_ms: float, **keys: object) -> Row:
    backend = name.split()[0] if name.startswith(("onnxruntime", "openvino")) else ""
    blank = Row(model, model.upper(), name, backend, size_mb=2.0, accuracy=0.98, agreement=1.0)
    return replace(blank, p50_ms={ONE: p50_ms * 2, TWO: p50_ms}, **keys)  # type: ignore[arg-type]


def two_models() -> list[Row]:
    """The first is fastest on onnxruntime by 4, the second on openvino by 9."""
    return [
        row("a", "torch eager", 8.0),
        row("a", PLAIN, 1.0),
        row("a", "onnxruntime fp32", 1.0),
        row("a", "openvino int8", 4.0),
        row("b", "torch eager", 18.0),
        row("b", "onnxruntime fp32", 9.0),
        row("b", "openvino int8", 1.0),
    ]


@pytest.mark.parametrize(
    ("factory", "parameters"), [(zoo.resnet18, 11_181_642), (zoo.mobilenet_v2, 2_236_682)]
)
def test_networks_have_the_parameters_of_the_published_ones(
    factory: type[torch.nn.Module], parameters: int
) -> None:
    """Of ten classes: 11,689,512 and 3,504,872 with the published thousand."""
    assert sum(p.numel() for p in factory().parameters()) == parameters


@pytest.mark.parametrize("key", ["mlp", "cnn", "lstm", "encoder"])
def test_networks_take_their_rows(key: str) -> None:
    subject = subjects.SUBJECTS[key]
    data = subject.data()
    with torch.inference_mode():
        answer = getattr(zoo, subject.factory)()(torch.from_numpy(data.judged.inputs[:3]))
    assert answer.shape == (3, zoo.CLASSES)


def test_rows_are_the_same_every_time() -> None:
    first, second = subjects.topics(), subjects.topics()
    assert np.array_equal(first.judged.inputs, second.judged.inputs)
    assert np.array_equal(first.judged.classes, second.judged.classes)


def test_fitted_random_encoder_tells_classes_apart_but_not_without_doubt(tmp_path: Path) -> None:
    """Agreement would say nothing of a network whose margins are all wide, or all noise."""
    from safetensors.torch import load_file

    subject = subjects.SUBJECTS["encoder"]
    data = subject.data()
    subject.write(subject, tmp_path, data.fitted)
    module = zoo.encoder().eval()
    module.load_state_dict(load_file(tmp_path / subject.weights))
    with torch.inference_mode():
        answers = torch.softmax(module(torch.from_numpy(data.judged.inputs)), dim=1)
    two = answers.topk(2).values
    margins = (two[:, 0] - two[:, 1]).numpy()
    assert float((answers.argmax(dim=1).numpy() == data.judged.classes).mean()) > 0.8
    assert np.quantile(margins, 0.05) < 0.2 < np.quantile(margins, 0.5)


def test_choice_is_measured_against_the_best_single_backend() -> None:
    backend, ratio = conversion_tables.choice_ratio(two_models())
    assert backend == "openvino"  # 4 and 1 times the best, the other 1 and 9
    assert ratio == pytest.approx(2.0)


def test_model_that_a_backend_cannot_serve_stays_as_it_is() -> None:
    rows = [*two_models(), row("c", "scikit-learn", 30.0), row("c", "onnxruntime fp32", 1.0)]
    rows.append(row("c", "openvino fp32", 0.1, refusal="no such operator"))
    assert conversion_tables.fastest(rows, "c", 1, "openvino") == 30.0
    assert conversion_tables.fastest(rows, "c", 1) == 1.0


def test_fastest_may_use_any_number_of_threads() -> None:
    slower = replace(row("a", "onnxruntime fp32", 1.0), p50_ms={ONE: 0.5, TWO: 0.7})
    assert conversion_tables.fastest([row("a", "torch eager", 9.0), slower], "a", 1) == 0.5


def test_aim_counts_only_variants_that_agree() -> None:
    rows = [
        row("resnet-18", "torch eager", 20.0),
        row("resnet-18", "openvino int8", 1.0, agreement=0.985),
        row("resnet-18", "openvino bf16", 4.0, agreement=0.995),
        row("resnet-18", "openvino fp16", 0.5, refusal="NaN"),
    ]
    (aim,) = conversion_tables.aims(rows)
    assert (aim.value, aim.met) == (5.0, False)
    assert "openvino bf16, agreement 99.5%" in aim.text


def test_original_has_the_threads_that_suit_it_best_too() -> None:
    """On a busy machine a second thread makes torch many times slower; that is no gain of ours."""
    eager = replace(row("resnet-18", "torch eager", 0), p50_ms={ONE: 30.0, TWO: 700.0})
    (aim,) = conversion_tables.aims([eager, row("resnet-18", "openvino int8", 5.0)])
    assert aim.value == 6.0


def test_accuracy_lost_is_that_of_the_model_that_int8_suits_least() -> None:
    """A refused variant counts: else nothing above the bound ever would."""
    rows = [
        row("mlp", "torch eager", 1.0, digits=True, accuracy=0.97),
        row("mlp", "onnxruntime int8", 1.0, digits=True, accuracy=0.90, refusal="loses 0.07"),
        row("mlp", "openvino int8", 1.0, digits=True, accuracy=0.97),
        row("mlp", "openvino bf16", 1.0, digits=True, accuracy=0.5),
        row("cnn", "torch eager", 1.0, digits=True, accuracy=0.98),
        row("cnn", "onnxruntime int8", 1.0, digits=True, accuracy=0.95, refusal="loses 0.03"),
        row("forest", "scikit-learn", 1.0, digits=True, accuracy=0.96),
        row("forest", "openvino int8", 1.0, digits=True, accuracy=None, refusal="no operator"),
    ]
    aim = next(a for a in conversion_tables.aims(rows) if a.unit == "points")
    assert aim.value == pytest.approx(3.0)
    assert "the worst of 2 models" in aim.text
    assert not aim.met


def test_table_holds_what_was_measured_and_why_a_variant_was_refused() -> None:
    rows = [*two_models(), row("a", "openvino fp16", 0.1, refusal="output must be finite")]
    rows += [row("a", f"openvino {p}", 0, size_mb=None, refusal="no operator") for p in ("w8", "z")]
    text = "\n".join(conversion_tables.table(rows, 2))
    eager = "| A | torch eager | 2.0 MB | 16 ms | 8 ms | - | 1.0 | 98.0% | 100.0% |  |"
    assert eager in text
    assert "| A | openvino int8 | 2.0 MB | 8 ms | 4 ms | - | 2.0 | 98.0% | 100.0% |  |" in text
    assert "- A, openvino fp16: output must be finite\n" in text
    assert "- A, openvino w8, openvino z: no operator\n" in text
    assert "| A | openvino w8" not in text
    assert "batch 1: >= 1.05 x | 2.00 x | met |" in text


def test_settings_are_one_thread_and_all() -> None:
    assert conversion_tables.settings(4) == (Setting(1, 1), Setting(1, 4), Setting(32, 4))


@pytest.mark.parametrize(
    ("ms", "text"), [(1617.4, "1,617 ms"), (12.34, "12.3 ms"), (1.0, "1 ms"), (0.0123, "12 us")]
)
def test_times_are_written_as_people_read_them(ms: float, text: str) -> None:
    only = replace(row("a", "torch eager", 1.0), p50_ms={ONE: ms})
    (line,) = (t for t in conversion_tables.table([only], 1) if "torch eager" in t)
    assert line.split(" | ")[3] == text


def test_update_replaces_its_own_place_only(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("<!-- a -->\nold\n<!-- /a -->\n<!-- b -->\nkept\n<!-- /b -->\n")
    page.update(file, "a", r"new \1")
    assert file.read_text() == ("<!-- a -->\nnew \\1\n<!-- /a -->\n<!-- b -->\nkept\n<!-- /b -->\n")


def test_update_refuses_a_page_without_the_place(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("mine")
    with pytest.raises(SystemExit, match="must hold '<!-- a -->' and '<!-- /a -->' once"):
        page.update(file, "a", "new")
    assert file.read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("key", ["forest", "mlp"])
def test_subject_is_converted_verified_and_timed(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(conversion, "BUILD", tmp_path / "build")
    host = profile_host()
    rows = {r.name: r for r in conversion.rows_of(subjects.SUBJECTS[key], host, 0.5)}
    assert rows["onnxruntime fp32"].served
    for name in ("onnxruntime fp32", PLAIN):  # of the forest's votes, a few are ties
        assert (rows[name].agreement or 0) >= 0.995
    wanted = {str(s) for s in conversion_tables.settings(conversion.thread_count(host))}
    for found in rows.values():
        assert set(found.p50_ms) in (wanted, set())
        assert found.p50_ms or found.refusal
    if key == "mlp":
        stored = [f"{b} {p}" for b in ("onnxruntime", "openvino") for p in ("w16", "w8")]
        assert all(rows[name].served for name in stored), [rows[name].refusal for name in stored]
    if key == "forest":
        assert "TreeEnsembleClassifier" in str(rows["openvino fp32"].refusal)
    else:
        assert rows["openvino int8"].accuracy == pytest.approx(
            rows["torch eager"].accuracy, abs=0.005
        )
    assert {name for name, found in rows.items() if found.backend} <= {
        f"{goal.backend} {goal.precision}" for goal in converted.GOALS
    }
