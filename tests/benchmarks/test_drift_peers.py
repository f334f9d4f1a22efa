"""Every detector goes through the same trials, and the tables say where a peer wins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import contenders
import drift_peer_tables
import drift_peers
import drift_trials_file
import pytest
from drift_peer_tables import Measured

sys.path.insert(0, str(contenders.PEERS))  # scripts of other environments, not a package
import drift_trials

SHIFT = {"heavy noise": [3.0, 5.0, -1.0, -2.0]}


def streaming(alarms: int, delays: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "kind": "streaming",
        "alarms": alarms,
        "rows": 20_000,
        "runs": 2,
        "row_us": 10.0,
        "delays": delays,
    }


def windows(false: int, found: int) -> dict[str, Any]:
    return {
        "kind": "windows",
        "false": {"50": [false, 100]},
        "power": {"100": [found, 100]},
        "window_ms": 1.5,
    }


def measured(**methods: dict[str, Any]) -> Measured:
    ours = {
        "scanflow-serve, default checks": streaming(1, {"heavy noise": [4.0, 5.0]}),
        "scanflow-serve, windows": windows(4, 60),
    }
    return Measured(ours | methods, {"Peer": 300.0}, {"Other": "not installed"}, 2)


def test_missed_shifts_count_as_infinite_and_alarms_before_as_nothing() -> None:
    assert drift_peer_tables.delay(SHIFT["heavy noise"]) == 5.0
    assert drift_peer_tables.delay([-1.0, -1.0, 7.0]) == float("inf")


@pytest.mark.parametrize(("false", "note"), [(4, ""), (40, "; it cries more often")])
def test_peer_that_wins_is_named_with_its_false_alarms(false: int, note: str) -> None:
    (line,) = drift_peer_tables.wins(measured(peer=windows(false, 70)))
    assert line.startswith(f"peer wins in shifts found in 100 rows: 0.70, ours 0.60{note}")


def test_peer_that_is_no_better_wins_nothing() -> None:
    found = measured(peer=windows(4, 60), slow=streaming(1, {"heavy noise": [9.0]}))
    assert list(drift_peer_tables.wins(found)) == ["No peer wins."]


def test_summary_tells_winners_apart_by_their_false_alarms() -> None:
    found = measured(loud=windows(40, 70), calm=windows(4, 70))
    *_, line = drift_peer_tables.summary(found)
    assert line.endswith("at as few false alarms, calm, and at more false alarms, loud.")


def test_tables_hold_what_was_measured_and_who_is_absent() -> None:
    found = measured(quick=streaming(8, SHIFT))
    text = "\n".join(drift_peer_tables.table(found))
    assert "| quick | 4.0 | 5 (1 missed, 1 before of 4) | 10 | 2 |" in text
    assert "| scanflow-serve, windows | 4% of 100 | 60% of 100 | 1.5 |" in text
    assert "Peer: 300 MiB; Other: not installed." in text


class _Tenth:
    """Alarms at every tenth row that it is shown."""

    def __init__(self) -> None:
        self.seen = 0

    def alarms(self, rows: Any) -> bool:
        self.seen += len(rows.values)
        return self.seen >= 10


def test_false_alarms_are_counted_anew_after_each(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    drift_trials_file.write(path, 1, clean=100, draws=1, longest=20)
    found = drift_trials.streaming(drift_trials.Trials(path), lambda _: _Tenth(), 60.0)
    assert (found["alarms"], found["rows"], found["runs"]) == (10, 100, 1)
    assert set(found["delays"].values().__iter__().__next__()) == {-2.0}


def test_ours_goes_through_the_trials_of_the_peers(tmp_path: Path) -> None:
    path = tmp_path / "rows.npz"
    drift_trials_file.write(path, 1, clean=400, draws=2, longest=50)
    found = drift_peers.tried(sys.executable, "scanflow", path, 0.1)
    stream = found["scanflow-serve, default checks"]
    assert 0 < stream["delays"]["heavy noise"][0] <= 20
    power = found["scanflow-serve, windows"]["power"]["500"]
    assert power[0] / power[1] > 0.6


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md"])
def test_pages_have_the_place_for_the_tables(page: str) -> None:
    text = (contenders.ROOT / page).read_text()
    assert text.count("<!-- drift-peers -->") == text.count("<!-- /drift-peers -->") == 1
