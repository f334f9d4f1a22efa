"""The checks' benchmark measures what it says, and its tables tell where an aim is not met."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import check_policies
import check_servers
import check_tables
import checks
import contenders
import pytest
from check_costs import Inline, Kept, Spread
from check_servers import Load, Lost, Memory
from check_tables import Result


def result(**keys: object) -> Result:
    spread = Spread(5.0, 9.0)
    loads = [Load("1 ms", n, 1000.0, on, 100.0, 110.0) for n in (1, 16) for on in (990, 980, 500)]
    blank = Result(
        inline=Inline(2.0, spread, spread, spread),
        kept=Kept(1000, 1_000_000, 1_005_000, 300_000, 4.0, 12.0),
        loads=loads,
        memory=[Memory("1 ms", 100.0, 120.0)],
        lost=[Lost("200 requests/s", 450, 400), Lost("full", 9000, 8000)],
        rounds=3,
        imported=200,
        forbidden=[],
    )
    return replace(blank, **keys)  # type: ignore[arg-type]


def test_requests_lost_are_the_median_over_pairs_of_bursts() -> None:
    assert check_servers.median_lost(result().loads, "1 ms", 16) == pytest.approx(0.02)


def test_all_aims_of_a_good_run_are_met() -> None:
    assert [aim.text for aim in check_tables.aims(result()) if not aim.met] == []


@pytest.mark.parametrize(
    ("keys", "missed"),
    [
        ({"kept": Kept(1000, 1_000_000, 1_020_000, 0, 4.0, 12.0)}, "its growth over 1,000 rows"),
        ({"lost": [Lost("calm", 450, 300)]}, "rows lost by kill -9, calm"),
        ({"memory": [Memory("1 ms", 100.0, 131.0)]}, "added to the server, 1 ms model"),
        (
            {"forbidden": ["scipy"]},
            "of torch, scipy, scikit-learn, river, pandas imported by the server",
        ),
    ],
)
def test_aim_that_falls_short_is_said_to(keys: dict[str, object], missed: str) -> None:
    found = result(**keys)
    assert [aim.text for aim in check_tables.aims(found) if not aim.met] == [missed]
    line = next(line for line in check_tables.summary(found) if line.startswith(f"| {missed}"))
    assert line.endswith("| **not met** |")


def test_table_holds_what_was_measured() -> None:
    text = "\n".join(check_tables.table(result()))
    assert "| 1 ms | 16 | 1,000 | 980 | 2.0% (1.0% to 50.0%) | 100 to 110 us |" in text
    assert "under full: of 9,000 rows seen, the restarted server knows 8,000." in text


def test_imports_are_read_as_the_interpreter_lists_them() -> None:
    log = "import time:  112 |    112 |   numpy.linalg\nother\nimport time: 1 | 2 | scipy\n"
    assert check_servers.IMPORTED.findall(log) == ["numpy.linalg", "scipy"]


def test_bodies_are_rows_that_no_model_was_trained_on() -> None:
    assert len(check_policies.bodies()) == len(check_policies.rows_of("validation", "test"))


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md"])
def test_pages_have_the_place_for_the_tables(page: str) -> None:
    text = (contenders.ROOT / page).read_text()
    assert text.count("<!-- checks -->") == text.count("<!-- /checks -->") == 1


@pytest.mark.slow
def test_short_run_measures_a_real_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_policies, "FOLDER", tmp_path)
    monkeypatch.setitem(check_policies.CACHE, "SCANFLOW_CACHE", str(tmp_path / "cache"))  # type: ignore[arg-type]
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path / "cache"))
    found = checks.measured(check_policies.pairs()[1:], rounds=1, seconds=1, rows=3000)
    assert found.kept.rows == 3000
    assert 0 < found.kept.late_bytes < 2 * 1024 * 1024
    assert found.forbidden == []
    assert {each.connections for each in found.loads} == {1, 16}
    calm = found.lost[0]
    assert calm.seen - 100 <= calm.kept <= calm.seen == 450
    assert found.inline.put.p50_us <= found.inline.put.p99_us
