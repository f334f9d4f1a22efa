from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from scanflow_serve.policies.files import inside
from scanflow_serve.policies.loader import PolicyFile

Faults = Callable[..., list[str]]
Load = Callable[..., PolicyFile]
BESIDE = "Put it beside the policy, with / between folders."


def policy(source: str = "models/digits-mlp.onnx", step: str = "model: m", tail: str = "") -> str:
    return (
        "apiVersion: scanflow/v1\nname: line\nobjective: {minimize: latency_p95_ms}\n"
        f"models: {{m: {{source: '{source}'}}}}\n"
        f"workflows: {{A: {{steps: [{{model: m}}, {{{step}}}]}}}}\ntargets: [{{run: A}}]\n{tail}\n"
    )


def test_link_that_leads_outside_lies_outside(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to(tmp_path)
    (home / "loop").symlink_to(home / "loop")
    assert inside(home, "link/x") is None
    assert inside(home, "..") is None
    assert inside(home, str(home / "x")) is None
    assert inside(home, "a\0b") is None
    assert inside(home, "a/../b") == home / "b"


@pytest.mark.parametrize(
    "source",
    ["torch:steps:softmax", "models:/digits/3", "runs:/0a1b/model", "bento:digits:latest"],
)
def test_source_with_a_scheme_is_no_path(load: Load, source: str) -> None:
    assert load(policy(source)).policy.models["m"].source == source


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (policy("../m.onnx"), "4:22: models.m.source must be a relative path inside the policy's "
         f"folder, got '../m.onnx'. {BESIDE}"),
        (policy("/etc/passwd"), "4:22: models.m.source must be a relative path inside the policy's "
         f"folder, got '/etc/passwd'. {BESIDE}"),
        (policy("modles:/digits"), "4:22: models.m.source must be a path, or start with torch:, "
         "models:, runs:, bento:, got 'modles:/digits'. Did you mean 'models'?"),
        (policy("models/none.txt"), "4:22: models.m.source must be a file that exists, "
         "got 'models/none.txt'. Paths are relative to the policy file."),
        (policy(step="python: 'steps:softmaxx'"), "5:46: workflows.A.steps[1].python must name a "
         "function of steps.py, got 'steps:softmaxx'. Did you mean 'softmax'?"),
        (policy(step="python: 'stepz:softmax'"), "5:46: workflows.A.steps[1].python must name a "
         "module beside the policy or an installed one, got 'stepz:softmax'. "
         "Write stepz.py beside the policy, or install its package."),
        (policy(step="python: 'broken:f'"), "5:46: workflows.A.steps[1].python must be in a Python "
         "file (broken.py:2: invalid syntax), got 'broken:f'. Correct it."),
        (policy(step="script: train.py"), "5:46: workflows.A.steps[1].script must be a file that "
         "exists, got 'train.py'. Paths are relative to the policy file."),
        (policy(step="script: models"), "5:46: workflows.A.steps[1].script must be a file, "
         "got the folder 'models'. Name a file."),
        (policy(tail="validation: {data: data/bad.npz, target: y}"),
         "7:20: validation.data must be "
         "an .npz or .csv file that can be read, got 'data/bad.npz': File is not a zip file. "
         "Write it with numpy.savez, or as CSV with a header."),
        (policy(tail="validation: {data: steps.py, target: y}"), "7:20: validation.data must be an "
         ".npz or .csv file that can be read, got 'steps.py': its suffix is .py. "
         "Write it with numpy.savez, or as CSV with a header."),
        (policy(tail="validation: {data: rows.csv, input: [a, bb], target: y}"), "7:41: "
         "validation.input[1] must name a column of rows.csv, got 'bb'. Did you mean 'b'?"),
        (policy(tail="checks: [{drift: {reference: data/digits-train.npz, input: pixel}}]"),
         "7:60: checks[0].drift.input must name an array of data/digits-train.npz, got 'pixel'. "
         "Did you mean 'pixels'?"),
        (policy(tail="store: {url: 'sqlite:////var/x.db'}"), "7:14: store.url must keep its file "
         "inside the policy's folder, got 'sqlite:////var/x.db'. "
         "For example: sqlite:///state/NAME.db"),
        (policy(tail="track: {uri: 'sqlite:///../x.db'}"), "7:14: track.uri must keep its file "
         "inside the policy's folder, got 'sqlite:///../x.db'. "
         "For example: sqlite:///state/NAME.db"),
        (policy(tail="store: {url: 'sqlite:///file:x.db?uri=true'}"), "7:14: store.url must keep "
         "its file inside the policy's folder, got 'sqlite:///file:x.db?uri=true'. "
         "For example: sqlite:///state/NAME.db"),
        (policy(tail="state: ../elsewhere"), "7:8: state must be a relative path inside the "
         f"policy's folder, got '../elsewhere'. {BESIDE}"),
        (policy(tail="serve: {auth: {keys_file: keys.txt}}"), "7:27: serve.auth.keys_file must be "
         "a file that exists, got 'keys.txt'. Paths are relative to the policy file."),
        (policy(tail="serve: {tls: {certificate: a.pem, key: steps.py}}"), "7:28: "
         "serve.tls.certificate must be a file that exists, got 'a.pem'. "
         "Paths are relative to the policy file."),
    ],
)  # fmt: skip
def test_file_that_will_not_do_is_a_fault(
    faults: Faults, folder: Path, text: str, fault: str
) -> None:
    (folder / "broken.py").write_text("# comment\ndef f(:\n")
    (folder / "data/bad.npz").write_bytes(b"not a zip")
    (folder / "rows.csv").write_text("a, b ,y\n1,2,0\n")
    assert faults(text) == [f"pi4.yaml:{fault}"]


def test_module_is_parsed_and_not_run(load: Load, folder: Path) -> None:
    trap = folder / "trap.py"
    trap.write_text(f"open({str(folder / 'ran')!r}, 'w')\ndef f(x): return x\n")
    assert load(policy(step="python: 'trap:f'")).policy
    assert not (folder / "ran").exists()


def test_function_may_come_from_an_installed_package(load: Load, faults: Faults) -> None:
    assert load(policy(step="python: 'json.decoder:JSONDecoder'")).policy
    (fault,) = faults(policy(step="python: 'json.nowhere:f'"))
    assert "must name a module beside the policy or an installed one" in fault


def test_state_and_database_need_not_exist_yet(load: Load) -> None:
    tail = "state: kept\nstore: {url: 'sqlite:///kept/x.db'}\ntrack: {uri: 'http://host:5000'}"
    assert load(policy(tail=tail)).policy.state == "kept"


def test_openvino_model_needs_its_weights(faults: Faults, folder: Path) -> None:
    (folder / "net.xml").write_text("<net/>")
    assert faults(policy("net.xml")) == [
        "pi4.yaml:4:22: models.m.source must have its weights beside it, got no net.bin. "
        "Copy both files of the OpenVINO model."
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_unreadable_file_is_a_fault(faults: Faults, folder: Path) -> None:
    (folder / "models/digits-mlp.onnx").chmod(0)
    (fault,) = faults(policy())
    assert "must be a readable file, got 'Permission denied'" in fault
