"""What a policy says that this version does not act on is told, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from scanflow_serve.policies.schema import Policy
from scanflow_serve.serving.inactive import inactive_sections

CONTRACT = Path(__file__).parents[1] / "contract"


def contract(name: str, **changes: Any) -> Policy:
    return Policy.model_validate(yaml.safe_load((CONTRACT / name).read_text()) | changes)


def named(policy: Policy) -> list[str]:
    return [note.partition(":")[0] for note in inactive_sections(policy)]


def test_quickstart_is_active_as_a_whole() -> None:
    assert named(contract("quickstart.yaml")) == []


def test_checks_and_rules_of_the_fleet_are_active() -> None:
    assert named(contract("targets.yaml")) == []


def test_what_rules_ask_of_nobody_is_named() -> None:
    hook = {"log": "info", "webhook": "http://127.0.0.1:9/alert"}
    rules = [
        {"when": "traffic.queue > 9.0", "prefer": "latency", "alert": {"log": "info"}},
        {"when": "traffic.queue > 9.0", "alert": hook, "retrain": "classify"},
    ]
    assert named(contract("quickstart.yaml", adapt=rules)) == [
        "adapt[1].alert.webhook",
        "adapt[1].retrain",
    ]


def test_every_section_that_is_not_active_is_named() -> None:
    assert named(contract("full.yaml")) == [
        "feedback",
        "store",
    ]


def test_tracking_is_active_where_there_are_alarms_to_record() -> None:
    track = {"uri": "http://127.0.0.1:5000"}
    assert named(contract("quickstart.yaml", track=track)) == ["track"]
    assert named(contract("quickstart.yaml", track=track, checks=[{"balance": {}}])) == []


def test_batch_steps_are_found_however_deep_they_stand() -> None:
    flows = {
        "flat": {"steps": [{"model": "digits-cnn"}]},
        "deep": {"steps": [{"parallel": [{"model": "digits-cnn"}, {"script": "fit.py"}]}]},
    }
    policy = contract("quickstart.yaml", workflows=flows, targets=[{"run": "flat"}])
    assert named(policy) == ["workflows.deep"]
