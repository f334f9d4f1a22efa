"""What a policy that is put in place of another may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanflow_serve.policies.errors import PolicyError, RequestError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.serving.reload_rules import successor


def running(contract: Path, more: str = "", **changes: str) -> PolicyFile:
    text = (contract / "quickstart.yaml").read_text()
    for old, new in changes.items():
        text = text.replace(old, new)
    return load_policy(contract / "quickstart.yaml", text=f"{text}\n{more}")


def with_step(policy_file: PolicyFile, step: str) -> str:
    slot = "      - model: [digits-mlp, digits-cnn]"
    return policy_file.text.replace(slot, f"{slot}\n      - {step}")


def test_objective_workflows_models_limits_and_keys_may_change(contract: Path) -> None:
    policy_file = running(contract, "serve: {limits: {rate_rps: 5}}")
    text = policy_file.text.replace("maximize: accuracy", "minimize: latency_p95_ms")
    text = text.replace("[digits-mlp, digits-cnn]", "digits-mlp").replace(
        "limits: {rate_rps: 5}", "limits: {max_rows: 5}, auth: {keys_from_env: KEYS}"
    )
    found = successor(text, policy_file)
    assert found.policy.objective.minimize == "latency_p95_ms"
    assert found.policy.serve.limits.max_rows == 5
    assert (found.path, found.folder) == (policy_file.path, policy_file.folder)


@pytest.mark.parametrize(
    ("line", "changed", "says"),
    [
        (
            "serve: {port: 3001}",
            "serve: {port: 3002}",
            "serve.port must stay 3001 while the server",
        ),
        ("serve: {port: 3001}", "", "serve.port must stay 3001 while the server runs, got 3000"),
        ("", "serve: {host: 0.0.0.0, auth: none}", "serve.host must stay '127.0.0.1'"),
        ("", "serve: {server: uvicorn}", "serve.server must stay 'bentoml'"),
        ("", "serve: {tracing: true}", "serve.tracing must stay False"),
        ("", "state: elsewhere", "state must stay unset while the server runs, got 'elsewhere'"),
        ("serve: {auth: none}", "", r"serve.auth must stay set .* Write auth: none"),
    ],
)
def test_what_takes_a_restart_is_refused_with_its_place(
    contract: Path, line: str, changed: str, says: str
) -> None:
    policy_file = running(contract, line)
    text = running(contract, changed).text
    with pytest.raises(PolicyError, match=says) as caught:
        successor(text, policy_file)
    (fault,) = caught.value.faults
    assert fault.line == (len(text.splitlines()) if changed else 1)


def test_all_faults_are_told_and_the_name_stays(contract: Path) -> None:
    policy_file = running(contract)
    text = policy_file.text.replace("name: digits\n", "name: other\n")
    with pytest.raises(PolicyError, match="name must stay 'digits'"):
        successor(f"{text}state: elsewhere", policy_file)
    with pytest.raises(PolicyError, match="state must stay unset"):
        successor(f"{text}state: elsewhere", policy_file)


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        ("python: steps:softmax", "python 'steps:softmax' in workflows.classify"),
        ("script: steps.py", "script 'steps.py'"),
        ("parallel: [{python: steps:softmax}]", "python 'steps:softmax'"),
        (
            "parallel: [{model: digits-mlp}, {model: digits-cnn}]\n        combine: steps:softmax",
            "combine 'steps:softmax'",
        ),
        ("{workflow: other, image: 'evil:latest'}", "the settings of a step"),
    ],
)
def test_code_is_not_added(contract: Path, step: str, shown: str) -> None:
    other = "workflows:\n  other: {steps: [{model: digits-mlp}]}\n"
    policy_file = running(contract, **{"workflows:\n": other})
    with pytest.raises(RequestError, match="must not add or change code") as caught:
        successor(with_step(policy_file, step), policy_file)
    assert caught.value.status == 403
    assert shown in caught.value.detail


@pytest.mark.parametrize(
    "source",
    [
        "{source: 'torch:steps:softmax', inputs: {x: {shape: [-1, 4]}}}",
        "{source: models/digits-mlp.onnx, trust_pickle: I trust this file}",
    ],
)
def test_sources_that_run_code_are_not_added(contract: Path, source: str) -> None:
    policy_file = running(contract)
    text = policy_file.text.replace("models:\n", f"models:\n  new: {source}\n", 1)
    with pytest.raises(RequestError, match=r"got models\.new\.source"):
        successor(text, policy_file)


def test_code_that_is_there_may_stay_but_not_change(contract: Path) -> None:
    step = "{python: 'steps:clip_pixels', params: {low: 0, high: 16}}"
    policy_file = running(contract)
    policy_file = load_policy(policy_file.path, text=with_step(policy_file, step))
    assert successor(f"{policy_file.text}description: new", policy_file).policy.description == "new"
    with pytest.raises(RequestError, match="python 'steps:clip_pixels'"):
        successor(policy_file.text.replace("high: 16", "high: 1"), policy_file)


def test_refusal_shows_no_settings_which_may_be_secret(
    contract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_TEST", "hunter2")
    policy_file = running(contract)
    step = "{python: 'steps:softmax', env: {TOKEN: '${SECRET_OF_TEST}'}}"
    with pytest.raises(RequestError, match="steps:softmax") as caught:
        successor(with_step(policy_file, step), policy_file)
    assert "hunter2" not in caught.value.detail


def test_code_may_change_where_the_running_policy_says_so(contract: Path) -> None:
    policy_file = running(contract, "serve: {allow_code_reload: true}")
    found = successor(with_step(policy_file, "python: steps:softmax"), policy_file)
    assert len(found.policy.workflows["classify"].steps) == 2


def test_a_policy_does_not_allow_itself_code(contract: Path) -> None:
    policy_file = running(contract)
    text = f"{with_step(policy_file, 'python: steps:softmax')}serve: {{allow_code_reload: true}}"
    with pytest.raises(RequestError, match="must not add or change code"):
        successor(text, policy_file)
