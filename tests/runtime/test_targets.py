from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from planning_worlds import host, policy

from scanflow_serve.policies.errors import TargetError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.selection import run_text
from scanflow_serve.runtime.targets import match

TARGETS = Path(__file__).parents[1] / "contract" / "targets.yaml"


@pytest.mark.parametrize(
    ("machine", "run"),
    [
        (host(kind="raspberry-pi", arch="aarch64", cores=4), "A"),
        (host(kind="desktop", memory_mb=512.0), "A"),
        (host(kind="desktop", cores=2), "any: B1, B2"),
        (host(kind="desktop", cores=1), "sequence: C1, C2, C3"),
        (host(kind="cluster", features=("avx512_vnni",)), "committee"),
        (host(kind="cluster", features=("avx2",)), "sequence: C1, C2, C3"),
        (host(kind="car"), "sequence: C1, C2, C3"),
    ],
)
def test_device_rule_of_the_slides_chooses_by_host(machine, run) -> None:
    rules = load_policy(TARGETS).policy
    assert run_text(rules.targets[match(rules, machine)].run) == run


def test_first_target_that_holds_wins() -> None:
    both = policy(
        targets=[
            {"when": "host.memory_mb > 1", "run": "classify"},
            {"when": "host.memory_mb > 0", "run": "classify"},
        ]
    )
    assert match(both, host()) == 0


def test_no_match_lists_conditions_and_what_the_host_is() -> None:
    rules = policy(
        targets=[
            {"when": 'host.kind == "jetson"', "run": "classify"},
            {"when": 'host.cpu.cores >= 64 || host.labels["line"] == "3"', "run": "classify"},
        ]
    )
    with pytest.raises(TargetError, match="must hold on this host, got none") as caught:
        match(rules, replace(host(cores=2.5), labels={"line": "4"}))
    text = str(caught.value)
    assert 'targets[0].when: host.kind == "jetson"' in text
    assert "host.kind is 'desktop'" in text
    assert "host.cpu.cores is 2.5" in text
    assert "host.labels is {'line': '4'}" in text
