"""`plan` and `calibrate`: for this host by measuring, for another from what was recorded there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from live_server import CONSOLE_SCRIPT

pytestmark = pytest.mark.slow


@pytest.fixture
def scanflow(shared_cache: dict[str, str]) -> Any:
    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [CONSOLE_SCRIPT, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=os.environ | shared_cache,
        )

    return run


def test_plan_lists_every_candidate_and_the_one_reason_against_it(
    contract: Path, scanflow: Any
) -> None:
    machines = scanflow("plan", contract / "quickstart.yaml", "--json")
    assert machines.returncode == 0, machines.stderr
    plan = json.loads(machines.stdout)
    assert plan["chosen"]["variants"][0]["model"] == "digits-cnn"
    reasons = [candidate["rejected"] for candidate in plan["candidates"]]
    assert reasons[0] is None
    assert all(reason["reason"] for reason in reasons[1:])
    people = scanflow("plan", contract / "quickstart.yaml")
    for candidate in plan["candidates"]:
        assert candidate["id"] in people.stdout
    assert "digits-cnn on onnxruntime in fp32" in people.stdout
    assert not (contract / "state").exists()  # planning leaves nothing beside the policy


def test_plan_for_another_host_is_made_from_its_records(
    contract: Path, scanflow: Any, tmp_path: Path
) -> None:
    policy = contract / "quickstart.yaml"
    host, figures = tmp_path / "host.json", tmp_path / "figures.json"
    host.write_text(scanflow("profile", "--json").stdout)
    figures.write_text(scanflow("calibrate", policy, "--json").stdout)
    here = json.loads(scanflow("plan", policy, "--json").stdout)
    there = scanflow("plan", policy, "--for", host, "--measurements", figures, "--json")
    assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout)["chosen"] == here["chosen"]
    policy.write_text(policy.read_text().replace("maximize: accuracy", "minimize: size_mb"))
    smallest = scanflow("plan", policy, "--for", host, "--measurements", figures, "--json")
    assert json.loads(smallest.stdout)["chosen"]["variants"][0]["model"] == "digits-mlp"


def test_plan_for_another_host_needs_its_measurements(
    contract: Path, scanflow: Any, tmp_path: Path
) -> None:
    host = tmp_path / "host.json"
    host.write_text(scanflow("profile", "--json").stdout)
    done = scanflow("plan", contract / "quickstart.yaml", "--for", host)
    assert done.returncode == 2
    assert "--for: must come with --measurements" in done.stderr
    assert "scanflow-serve calibrate POLICY --json" in done.stderr


@pytest.mark.parametrize("text", ["", "[]", '{"host": 1}', '{"host": "x", "measured": {"?": 3}}'])
def test_file_that_is_no_measurements_is_refused(
    contract: Path, scanflow: Any, tmp_path: Path, text: str
) -> None:
    (tmp_path / "figures.json").write_text(text)
    done = scanflow(
        "plan", contract / "quickstart.yaml", "--measurements", tmp_path / "figures.json"
    )
    assert done.returncode == 2
    assert "scanflow-serve calibrate POLICY --json" in done.stderr
    assert "Traceback" not in done.stderr


def test_infeasible_objective_shows_all_figures_and_exits_with_1(
    contract: Path, scanflow: Any
) -> None:
    policy = contract / "quickstart.yaml"
    policy.write_text(policy.read_text().replace("_p95_ms: 20", "_p95_ms: 0.000001"))
    done = scanflow("plan", policy)
    assert done.returncode == 1
    assert "digits-cnn/onnxruntime-fp32x1" in done.stdout
    assert "Nearest misses" in done.stderr
    assert "on_infeasible: best_effort" in done.stderr


def test_figures_of_an_infeasible_policy_are_written_down_all_the_same(
    contract: Path, scanflow: Any, tmp_path: Path
) -> None:
    policy, figures = contract / "quickstart.yaml", tmp_path / "figures.json"
    feasible = policy.read_text()
    policy.write_text(feasible.replace("_p95_ms: 20", "_p95_ms: 0.000001"))
    done = scanflow("calibrate", policy, "--json")
    assert done.returncode == 1
    assert "Nearest misses" in done.stderr
    figures.write_text(done.stdout)
    policy.write_text(feasible)
    plan = scanflow("plan", policy, "--measurements", figures, "--json")
    assert plan.returncode == 0, plan.stderr
    assert json.loads(plan.stdout)["chosen"]["variants"][0]["model"] == "digits-cnn"


def test_sections_that_are_not_active_are_notes_of_the_plan(contract: Path, scanflow: Any) -> None:
    policy = contract / "quickstart.yaml"
    policy.write_text(policy.read_text() + 'store: {url: "sqlite:///state/seen.db"}\n')
    plan = json.loads(scanflow("plan", policy, "--json").stdout)
    assert plan["notes"] == ["store: validated, not active in this version."]
    assert "note: store: validated, not active" in scanflow("plan", policy).stdout
