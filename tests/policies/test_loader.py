from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.policies.loader import PolicyFile, load_policy

Load = Callable[..., PolicyFile]
Faults = Callable[..., list[str]]
CONTRACT = Path(__file__).parents[1] / "contract"


@pytest.mark.parametrize("name", ["quickstart", "targets"])
def test_contract_policy_loads_as_it_stands(name: str) -> None:
    loaded = load_policy(CONTRACT / f"{name}.yaml", environ={})
    assert loaded.folder == CONTRACT.resolve()
    assert loaded.text == (CONTRACT / f"{name}.yaml").read_text()


def test_full_contract_policy_has_exactly_its_one_deliberate_fault() -> None:
    path = CONTRACT / "full.yaml"
    with pytest.raises(PolicyError, match="retrain") as caught:
        load_policy(path, environ={})
    (fault,) = caught.value.faults
    assert str(fault) == (
        f"{path}:36:23: feedback.retrain.workflow must name a workflow that is defined, "
        "got 'retrain'. Define it under workflows. Known: read."
    )


def test_policy_without_conditions_imports_neither_cel_nor_numpy() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from scanflow_serve.policies.loader import load_policy\n"
        f"load_policy(Path({str(CONTRACT / 'quickstart.yaml')!r}), environ={{}})\n"
        "print(sorted({'celpy', 'lark', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_digest_ignores_comments_and_follows_variables(load: Load, quickstart: str) -> None:
    plain = load(quickstart).digest
    assert load(f"# hello\n{quickstart}").digest == plain
    assert load(quickstart.replace("digits\n", "${NAME}\n"), {"NAME": "digits"}).digest == plain
    assert load(quickstart.replace("digits\n", "${NAME}\n"), {"NAME": "other"}).digest != plain


def test_text_may_be_given_instead_of_the_file(folder: Path, quickstart: str) -> None:
    loaded = load_policy(folder / "sent.yaml", environ={}, text=quickstart)
    assert loaded.policy.name == "digits"
    assert not (folder / "sent.yaml").exists()


def test_resolve_stays_in_the_folder(load: Load, quickstart: str, folder: Path) -> None:
    loaded = load(quickstart)
    assert loaded.resolve("data/digits-test.npz") == folder / "data/digits-test.npz"
    with pytest.raises(PolicyError, match="must be a path inside the policy's folder, got"):
        loaded.resolve("../x")


def test_keys_of_a_variable_are_not_read_at_load(load: Load, quickstart: str) -> None:
    loaded = load(f"{quickstart}serve: {{auth: {{keys_from_env: NOT_SET}}}}\n")
    auth = loaded.policy.serve.auth
    assert auth is not None
    assert auth != "none"
    assert auth.keys_from_env == "NOT_SET"


def test_missing_file_says_what_was_tried(folder: Path) -> None:
    with pytest.raises(
        PolicyError, match="must be a readable file, got 'No such file or directory'"
    ):
        load_policy(folder / "none.yaml", environ={})


def test_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    with pytest.raises(PolicyError, match="must be a readable file, got 'Is a directory'"):
        load_policy(folder, environ={})


def test_file_that_is_not_utf8_is_refused_at_the_byte(folder: Path) -> None:
    path = folder / "latin.yaml"
    path.write_bytes("a: ä\nb: grün".encode() + b"\xfc")
    with pytest.raises(PolicyError, match=r"latin\.yaml:2:8: must be UTF-8, got byte 0xfc"):
        load_policy(path, environ={})


def test_file_over_a_mebibyte_is_refused(folder: Path) -> None:
    path = folder / "large.yaml"
    path.write_text("#" * (1 << 20) + "\n")
    with pytest.raises(PolicyError, match="must have at most 1048576 bytes"):
        load_policy(path, environ={})


def test_lone_surrogate_in_a_given_text_is_refused(folder: Path) -> None:
    with pytest.raises(PolicyError, match=r"must be Unicode text, got a lone surrogate U\+D800"):
        load_policy(folder / "sent.yaml", environ={}, text="name: \ud800")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "pi4.yaml:1:1: must not be empty. Start with: scanflow-serve quickstart"),
        (
            "- 1\n",
            "pi4.yaml:1:1: must be a mapping, got [1]. Start with: scanflow-serve quickstart",
        ),
    ],
)
def test_document_that_is_no_mapping_is_one_fault(faults: Faults, text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_other_api_version_names_the_one_that_is_known(faults: Faults, quickstart: str) -> None:
    assert faults(quickstart.replace("scanflow/v1", "scanflow/v2")) == [
        "pi4.yaml:2:13: apiVersion must be scanflow/v1, got 'scanflow/v2'. "
        "Write: apiVersion: scanflow/v1"
    ]


def test_faults_of_every_stage_are_told_at_once_in_file_order(faults: Faults) -> None:
    text = """\
apiVersion: scanflow/v1
name: digits
name: again
models:
  digits-mlp: {source: models/digits-mpl.onnx}
validation: {data: data/digits-validation.npz, input: pixel, target: label}
workflows:
  classify: {steps: [{model: digits-mpl}]}
targets:
  - {when: host.knd == "desktop", run: clasify}
objective:
  maximize: accuracy
  subject_to:
    max_latency_p95_ms: -5
    max_memory: 3
serve: {port: "${PORT}"}
"""
    assert faults(text) == [
        "pi4.yaml:3:1: name must be given once, got it on line 2 too. Remove one of the two.",
        "pi4.yaml:5:24: models.digits-mlp.source must be a file that exists, "
        "got 'models/digits-mpl.onnx'. Did you mean 'digits-mlp.onnx'?",
        "pi4.yaml:6:55: validation.input must name an array of data/digits-validation.npz, "
        "got 'pixel'. Did you mean 'pixels'?",
        "pi4.yaml:8:30: workflows.classify.steps[0].model must name a model that is defined, "
        "got 'digits-mpl'. Did you mean 'digits-mlp'?",
        "pi4.yaml:10:17: targets[0].when must name a member of host, got 'knd'. "
        "Did you mean 'kind'?",
        "pi4.yaml:10:40: targets[0].run must name a workflow that is defined, got 'clasify'. "
        "Did you mean 'classify'?",
        "pi4.yaml:14:25: objective.subject_to.max_latency_p95_ms must be > 0, got -5. "
        "Give milliseconds, for example 50.",
        "pi4.yaml:15:5: objective.subject_to.max_memory is not a known key. "
        "Did you mean 'max_memory_mb'?",
        "pi4.yaml:16:15: serve.port needs the environment variable PORT, which is not set. "
        "Set it, or give a default: ${PORT:-VALUE}.",
    ]
