"""Replicas that each saw a part of the traffic stand together where their sum does."""

from __future__ import annotations

from pathlib import Path

import pytest
from checks_worlds import World, noisy, stream

from scanflow_serve.policies.errors import StateError
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.replicas import merge_replicas
from scanflow_serve.runtime.tensors import Array

DRIFT = "  - drift: {method: pca, reference: data/digits-train.npz, input: pixels}"


def replica(folder: Path, rows: Array) -> Host:
    """Return a host that saw *rows*, and has kept its state in *folder*."""
    world = World(DRIFT, folder)
    host = world.host()
    world.feed(host, rows, batch=50)
    host.checkpoint(force=True)
    return host


def together(tmp_path: Path, *folders: Path) -> Host:
    world = World(DRIFT, tmp_path / "merged")
    host = world.host(armed=False)
    merge_replicas(host, folders)
    return host


def test_replicas_wealth_and_rows_add_up(tmp_path: Path) -> None:
    rows = stream(1, 400)
    hosts = [replica(tmp_path / name, rows[at : at + 200]) for name, at in (("a", 0), ("b", 200))]
    merged = together(tmp_path, tmp_path / "a", tmp_path / "b")
    assert merged.rows == 400
    assert merged.watches[0].rows == 400
    wealth = sum(host.standing.wealth for host in hosts)
    assert merged.standing.wealth == pytest.approx(wealth, rel=1e-6)
    assert merged.state == "ok"


def test_change_that_is_spread_over_replicas_shows_in_the_sum(tmp_path: Path) -> None:
    drifted = noisy(stream(2, 400), 3)
    names = [f"r{number}" for number in range(12)]
    rows = 4  # of drifted traffic each: short of an alarm
    hosts = [
        replica(tmp_path / name, drifted[rows * at : rows * (at + 1)])
        for at, name in enumerate(names)
    ]
    most = max(host.standing.wealth for host in hosts)
    merged = together(tmp_path, *(tmp_path / name for name in names))
    assert merged.standing.wealth > 2 * most
    assert merged.standing.wealth == pytest.approx(sum(h.standing.wealth for h in hosts), rel=1e-6)


def test_alarm_of_one_replica_is_the_alarm_of_all_with_its_evidence(tmp_path: Path) -> None:
    replica(tmp_path / "quiet", stream(1, 100))
    told = replica(tmp_path / "loud", 16 - stream(2, 100)).watches[0].life
    merged = together(tmp_path, tmp_path / "quiet", tmp_path / "loud")
    assert merged.state == "alarm"
    assert merged.watches[0].life.evidence == told.evidence


def test_states_of_replicas_are_left_as_they_are(tmp_path: Path) -> None:
    replica(tmp_path / "a", stream(1, 100))
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.npz")}
    together(tmp_path, tmp_path / "a", tmp_path / "a")
    assert before
    assert {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.npz")} == before


def test_folders_without_a_state_of_this_policy_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="a replica must have an armed check of this policy"):
        together(tmp_path, tmp_path / "nothing")
