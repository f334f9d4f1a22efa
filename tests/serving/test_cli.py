"""The command line's promises, by running it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scanflow_serve.serving.cli import COMMANDS

CONSOLE_SCRIPT = Path(sys.executable).with_name("scanflow-serve")


def scanflow(
    *arguments: str | Path, cwd: Path | None = None, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CONSOLE_SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
        env=os.environ | environ,
    )


def test_help_lists_every_command_with_an_example_and_imports_none() -> None:
    probe = (
        "import sys; from scanflow_serve.serving import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit as done: assert done.code == 0\n"
        "heavy = {'numpy', 'pydantic', 'rich', 'bentoml', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, (_, line) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}", done.stdout, re.MULTILINE)
    assert "Example: scanflow-serve" in done.stdout


SUBCOMMANDS = [
    *("keys new", "keys list"),
    *("artifacts list", "artifacts show", "artifacts verify", "artifacts gc"),
]


@pytest.mark.parametrize("name", [*COMMANDS, *SUBCOMMANDS])
def test_every_command_has_help_with_an_example(name: str) -> None:
    done = scanflow(*name.split(), "--help")
    assert done.returncode == 0, done.stderr
    assert f"Example: scanflow-serve {name}" in done.stdout


def test_version_is_the_package_version() -> None:
    done = scanflow("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"scanflow-serve, version \d+\.\d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["fly"], "No such command 'fly'"),
        (["plan"], "Missing argument 'POLICY'"),
        (["plan", "nowhere.yaml"], "File 'nowhere.yaml' does not exist"),
        (["nowhere.yaml"], "File 'nowhere.yaml' does not exist"),
        (["run", "x.yaml", "--port", "70000"], "70000 is not in the range"),
    ],
)
def test_wrong_usage_is_told_on_stderr_with_exit_code_2(arguments: list[str], text: str) -> None:
    done = scanflow(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["quickstart.yaml", "targets.yaml"])
def test_contract_policy_is_valid(contract: Path, name: str) -> None:
    done = scanflow("validate", contract / name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{contract / name}: OK\n")
    assert "model digits-mlp: pixels float32(n, 64) -> logits float32(n, 10)" in done.stdout


def test_deliberate_fault_of_the_full_policy_is_the_only_one(contract: Path) -> None:
    done = scanflow("validate", contract / "full.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.search(r"full\.yaml:\d+:\d+: feedback\.retrain\.workflow.*'retrain'", line)


def test_validate_writes_json_for_machines(contract: Path) -> None:
    good = json.loads(scanflow("validate", contract / "quickstart.yaml", "--json").stdout)
    assert good["ok"] is True
    assert [model["name"] for model in good["models"]] == ["digits-mlp", "digits-cnn"]
    done = scanflow("validate", contract / "full.yaml", "--json")
    assert done.returncode == 2
    (fault,) = json.loads(done.stdout)["faults"]
    assert fault["path"] == "feedback.retrain.workflow"


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("models/digits-mlp.onnx", r"quickstart\.yaml:6:13: models\.digits-mlp\.source "),
        ("data/digits-validation.npz", r"quickstart\.yaml:10:9: validation\.data "),
    ],
)
def test_validate_opens_every_file_and_names_the_place(
    contract: Path, file: str, place: str
) -> None:
    (contract / file).write_bytes(b"something else")
    done = scanflow("validate", contract / "quickstart.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(place, done.stderr.splitlines()[0])


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        ("labels: ['0', '1']", r"models\.digits-mlp\.labels must be the names of the 10 classes"),
        ("output: scores", r"models\.digits-mlp\.output must be one of the model's outputs"),
    ],
)
def test_validate_holds_a_model_to_what_the_policy_says_of_it(
    contract: Path, key: str, rule: str
) -> None:
    policy = contract / "quickstart.yaml"
    source = "source: models/digits-mlp.onnx"
    policy.write_text(policy.read_text().replace(source, f"{source}\n    {key}"))
    done = scanflow("validate", policy)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.search(rf"quickstart\.yaml:7:13: {rule}", line)


def test_image_that_no_model_takes_is_a_fault_of_its_key(contract: Path) -> None:
    policy = contract / "quickstart.yaml"
    image = "{mode: L, width: 9, height: 8, layout: flat}"
    policy.write_text(f"{policy.read_text()}serve:\n  image: {image}\n")
    done = scanflow("validate", policy)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert re.search(r"yaml:\d+:10: serve\.image must give a row of input 'pixels' .*\[72\]", line)


def test_inactive_sections_are_said(contract: Path) -> None:
    policy = contract / "quickstart.yaml"
    policy.write_text(policy.read_text() + "track: {uri: 'sqlite:///state/mlflow.db'}\n")
    done = scanflow("validate", policy)
    assert "note: track: validated, not active in this version without checks" in done.stdout
    active = scanflow("validate", contract / "targets.yaml")
    assert "not active" not in active.stdout


def test_schema_is_json_schema() -> None:
    done = scanflow("schema")
    schema = json.loads(done.stdout)
    assert "objective" in schema["properties"]


def test_profile_speaks_to_people_and_machines(tmp_path: Path) -> None:
    people = scanflow("profile")
    assert people.returncode == 0
    assert re.search(r"^kind +\S", people.stdout, re.MULTILINE)
    machines = json.loads(scanflow("profile", "--json").stdout)
    assert machines["cpu"]["cores"] > 0
    assert machines["fingerprint"]


def test_key_that_was_made_is_listed_by_name_and_scope(contract: Path) -> None:
    made = json.loads(
        scanflow("keys", "new", "ops", "--scope", "predict", "--scope", "admin", "--json").stdout
    )
    policy = contract / "quickstart.yaml"
    policy.write_text(policy.read_text() + "serve: {auth: {keys_from_env: THE_KEYS}}\n")
    done = scanflow("keys", "list", policy, THE_KEYS=made["line"])
    assert done.stdout == "ops  predict+admin\n"
    assert made["secret"] not in made["line"]


def test_listing_keys_of_a_policy_without_any_says_what_to_write(contract: Path) -> None:
    done = scanflow("keys", "list", contract / "quickstart.yaml")
    assert done.returncode == 2
    assert "keys_from_env: SCANFLOW_KEYS" in done.stderr


def test_unexpected_error_is_one_line_and_debug_shows_the_traceback(contract: Path) -> None:
    broken = {"PYTHONPATH": str(contract), "SCANFLOW_TEST": "1"}
    (contract / "sitecustomize.py").write_text(
        "import scanflow_serve.policies.loader as loader\n"
        "def load(*_, **__): raise ZeroDivisionError('of all things')\n"
        "loader.load_policy = load\n"
    )
    quiet = scanflow("validate", contract / "quickstart.yaml", **broken)
    assert quiet.returncode == 1
    assert quiet.stderr == (
        "ZeroDivisionError: of all things. This is a bug; --debug shows where.\n"
    )
    loud = scanflow("validate", contract / "quickstart.yaml", "--debug", **broken)
    assert loud.returncode == 1
    assert "Traceback (most recent call last)" in loud.stderr


def test_quickstart_without_serving_writes_a_valid_policy(tmp_path: Path) -> None:
    done = scanflow("quickstart", "mine", "--no-serve", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("Serve it: scanflow-serve run mine/policy.yaml\n")
    assert scanflow("validate", tmp_path / "mine" / "policy.yaml").returncode == 0
