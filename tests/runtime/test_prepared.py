from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from planning_worlds import FakeCalibrate, FakeModels, host, measurement

from scanflow_serve.policies.errors import PolicyError, StateError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.prepare import Prepared, load, prepare, save

CONTRACT = Path(__file__).parents[1] / "contract"


@pytest.fixture
def made(tmp_path: Path) -> Prepared:
    """Return the quickstart, prepared in a folder of its own."""
    folder = tmp_path / "digits"
    shutil.copytree(CONTRACT, folder)
    names = [f"digits-{name}/onnxruntime-fp32" for name in ("mlp", "cnn")]
    return prepare(
        load_policy(folder / "quickstart.yaml"),
        host(2, labels={"line": "3"}),
        ingest=FakeModels(tmp_path),
        gate=lambda reference, outputs, precision: None,
        calibrate=FakeCalibrate({name: measurement() for name in names}),
        installed={"onnxruntime": True},
    )


def test_saved_plan_comes_back_whole(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path / "state")
    assert load(tmp_path / "state") == made
    assert load(tmp_path / "state", policy_file=made.policy_file) == made


def test_saving_replaces_the_plan_at_once(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path)
    save(made, tmp_path)
    assert [path.name for path in tmp_path.glob("plan*")] == ["plan.json"]


def test_folder_that_can_not_be_written_is_told(made: Prepared, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="must be writable, got 'File exists'"):
        save(made, tmp_path / "file")


def test_changed_policy_needs_a_new_plan(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path)
    path = made.policy_file.path
    path.write_text(path.read_text().replace("max_latency_p95_ms: 20", "max_latency_p95_ms: 9"))
    with pytest.raises(StateError, match="policy must be as it was planned for"):
        load(tmp_path)


def test_comment_in_the_policy_needs_no_new_plan(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path)
    path = made.policy_file.path
    path.write_text(f"# a remark\n{path.read_text()}")
    assert load(tmp_path).plan == made.plan


def test_policy_that_is_gone_is_told(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path)
    made.policy_file.path.unlink()
    with pytest.raises(PolicyError, match="must be a readable file"):
        load(tmp_path)


def test_changed_model_needs_a_new_plan(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path)
    made.artifacts["digits-cnn"][0].path.write_text("other weights")
    with pytest.raises(StateError, match=r"digits-cnn\.onnx must be as it was planned for"):
        load(tmp_path)


def test_changed_weights_beside_a_model_need_a_new_plan(made: Prepared, tmp_path: Path) -> None:
    weights = tmp_path / "digits-cnn.onnx.data"
    weights.write_text("weights")
    artifact = replace(made.artifacts["digits-cnn"][0], data=(weights,))
    whole = replace(made, artifacts={**made.artifacts, "digits-cnn": (artifact,)})
    save(whole, tmp_path)
    assert load(tmp_path) == whole
    weights.write_text("other weights")
    with pytest.raises(StateError, match=r"digits-cnn\.onnx\.data must be as it was planned for"):
        load(tmp_path)


def test_touched_model_needs_no_new_plan(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path)
    os.utime(made.artifacts["digits-cnn"][0].path, ns=(1, 1))
    assert load(tmp_path) == made


def test_model_that_is_gone_is_told(made: Prepared, tmp_path: Path) -> None:
    save(made, tmp_path)
    made.artifacts["digits-mlp"][0].path.unlink()
    with pytest.raises(StateError, match=r"digits-mlp\.onnx must be readable"):
        load(tmp_path)


def without(key: str) -> Callable[[dict], dict]:
    return lambda document: {k: v for k, v in document.items() if k != key}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda document: [], "must be a plan of format 3, got None"),
        (lambda document: document | {"format": 0}, "must be a plan of format 3, got 0"),
        (lambda document: document | {"tools": {"onnxruntime": "0.1"}}, "tools must be as it was"),
        (lambda document: document | {"plan": {}}, "must be a plan, got KeyError"),
        (without("kinds"), "must be a plan, got KeyError: 'kinds'"),
        (without("digest"), "must be a plan of format 3"),
    ],
)
def test_plan_of_another_kind_is_refused(made: Prepared, tmp_path: Path, change, text) -> None:
    path = save(made, tmp_path)
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(StateError, match=text):
        load(tmp_path)


def test_folder_without_a_plan_is_told(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"plan.json: must be readable.*Plan again"):
        load(tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(StateError, match="must be JSON"):
        load(tmp_path)
