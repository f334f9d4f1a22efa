"""The comparison counts what it should, its tables say so, and it runs against the real server."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import contenders
import family
import numpy as np
import openloop
import pins
import pytest
import rivals
import switching
import switching_tables
from contenders import ROOT, served
from foretold import Foretold
from openloop import Outcomes
from pins import Switched
from switching_cells import CELLS, Cell, Record, record, schedule
from switching_tables import OURS, Results

LOW, HIGH = Cell("poisson", 0.3), Cell("poisson", 5.0)
STATICS = ("static-fast", "static-good")
NAMES = {OURS: "scanflow-serve", "static-fast": "fast alone", "static-good": "good alone"}


def outcomes(
    latency_s: list[float], status: list[int], predicted: list[int], by: list[str]
) -> Outcomes:
    at = np.arange(len(latency_s)) * 0.5
    floats, ints = np.array(latency_s, float), np.array(status)
    return Outcomes(at, np.full(len(at), 0.001), floats, ints, np.array(predicted), tuple(by))


def recorded(found: Outcomes) -> Record:
    """Return the record of requests that all show class 1, in 2 s, with a limit of 100 ms."""
    classes = np.ones(len(found), np.int64)
    accuracy = {"a": 0.9, "b": 0.5}
    return record(LOW, OURS, 0, 2.0, found, classes, accuracy, "b", 0.1)


def test_each_request_ends_in_one_way() -> None:
    found = recorded(
        outcomes(
            [0.05, 0.2, 0.01, np.inf],
            [200, 200, 504, openloop.UNANSWERED],
            [1, 1, -1, -1],
            ["a", "a", "", ""],
        )
    )
    assert (found.in_time, found.late, found.refused, found.failed) == (1, 1, 1, 1)
    assert found.requests == 4


def test_answer_after_the_limit_is_worth_nothing() -> None:
    found = recorded(outcomes([0.101, 0.1], [200, 200], [1, 1], ["a", "a"]))
    assert (found.right, found.rated) == (1, 0.9)


def test_answer_in_time_is_worth_what_its_model_is_right_on_held_out_rows() -> None:
    found = recorded(outcomes([0.01] * 3, [200] * 3, [1, 2, 1], ["a", "a", ""]))
    assert found.rated == pytest.approx(0.9 + 0.9 + 0.5)  # who does not say is "b"
    assert found.right == 2
    assert dict(found.answers) == {"a": 2, "b": 1}


def test_blocks_hold_the_requests_that_were_due_in_them() -> None:
    found = recorded(outcomes([0.01, 0.01, 0.2, 0.01], [200] * 4, [1] * 4, ["a", "b", "a", "a"]))
    assert [(n, in_time) for n, in_time, _ in found.blocks] == [(2, 2), (2, 1)]
    assert sum(rated for _, _, rated in found.blocks) == pytest.approx(found.rated)


def test_server_error_is_a_failure_not_a_refusal() -> None:
    found = recorded(outcomes([0.01, 0.01], [500, 503], [-1, -1], ["", ""]))
    assert (found.failed, found.refused) == (1, 1)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.title)
def test_trace_has_the_load_that_its_title_says(cell: Cell) -> None:
    """Over a thousand seconds; the peak of a spike is five times the capacity."""
    sent = schedule(cell, 20.0, 1000.0, 0, bodies=7)
    assert len(sent.at_s) / 1000 == pytest.approx(cell.load * 20, rel=0.1)
    assert (np.diff(sent.at_s) >= 0).all()
    if cell.trace == "spike":
        counts = np.histogram(sent.at_s, bins=10, range=(0, 1000))[0]
        assert counts.max() / 100 == pytest.approx(100, rel=0.1)


def test_every_server_gets_the_same_requests_and_every_row_its_share() -> None:
    one, other = (schedule(HIGH, 20.0, 8.0, 3, bodies=50) for _ in range(2))
    assert (one.at_s == other.at_s).all()
    assert (one.body == other.body).all()
    counts = np.bincount(one.body, minlength=50)
    assert counts.max() - counts.min() <= 1


def rated(rival: str, cell: Cell, repeat: int, *values: float) -> Record:
    """Return a record with a block of 100 requests for each share of them that was right."""
    blocks = tuple((100, round(100 * value), 100 * value) for value in values)
    total = sum(block[2] for block in blocks)
    return Record(
        trace=cell.trace,
        load=cell.load,
        rival=rival,
        repeat=repeat,
        seconds=float(len(values)),
        requests=100 * len(values),
        in_time=sum(block[1] for block in blocks),
        right=round(total),
        rated=total,
        late=0,
        refused=100 * len(values) - sum(block[1] for block in blocks),
        failed=0,
        p50_ms=10.0,
        p99_ms=20.0,
        sent_late_ms=1.0,
        answers={"digits-96": 10, "digits-256": 30},
        blocks=blocks,
    )


def both(cell: Cell, ours: float, fast: float, good: float) -> list[Record]:
    found = []
    for repeat in range(2):
        for rival, value in zip((OURS, *STATICS), (ours, fast, good), strict=True):
            found.append(rated(rival, cell, repeat, *[value] * 4))
    return found


def test_gain_is_over_the_best_static_variant_of_the_cell() -> None:
    results = Results([*both(LOW, 0.9, 0.7, 0.8), *both(HIGH, 0.5, 0.45, 0.1)], STATICS)
    assert (results.best_static(LOW), results.best_static(HIGH)) == STATICS[::-1]
    gain = results.gain(LOW)
    assert (gain.value, gain.low, gain.high) == pytest.approx((10, 10, 10))


def test_interval_of_a_gain_that_changes_its_sign_holds_nought() -> None:
    ours = [rated(OURS, LOW, 0, 0.9, 0.5, 0.8, 0.6)]
    theirs = [rated("static-good", LOW, 0, 0.6, 0.8, 0.5, 0.9)]
    gain = switching_tables.gain(ours, theirs)
    assert gain.low < 0 < gain.high


def test_repeats_are_compared_with_their_own_arrivals() -> None:
    """A hard repeat and an easy one differ by far more than the two servers do."""
    ours = [rated(OURS, LOW, n, value) for n, value in enumerate((0.9, 0.3))]
    theirs = [rated("static-good", LOW, n, value) for n, value in enumerate((0.8, 0.2))]
    gain = switching_tables.gain(ours, theirs[::-1])
    assert (gain.low, gain.high) == pytest.approx((10, 10))


def aims_of(records: list[Record], told: list[Foretold], switched: Switched | None) -> list[str]:
    found = switching_tables.aims(Results(records, STATICS), told, switched)
    return [f"{aim.text}: {aim.value:.2f} {aim.met}" for aim in found]


def test_aims_tell_what_falls_short() -> None:
    records = [*both(LOW, 0.98, 0.999, 0.9), *both(HIGH, 0.3, 0.2, 0.1)]
    told = [Foretold(c.trace, c.load, n, 0.5, 0.4, 0.99) for c in (LOW, HIGH) for n in (0, 1)]
    text = "\n".join(aims_of(records, told, Switched(10, 500.0, 20, 1, 9, {}, 2.0)))
    assert "of 2 with effective accuracy below the best static variant's, 95 %: 1.00 False" in text
    assert "of 2 where the most accurate alone misses over 1 %: 1.00 False" in text
    assert "holds the load, worst of 1: 2.00 False" in text
    assert "goodput at 5 x capacity over its peak: 0.31 False" in text
    assert "short of the offline optimum, worst trace: 69.00 False" in text
    assert "failed requests, of 20, during 10 switches: 1.00 False" in text


def test_aims_tell_what_is_met() -> None:
    records = [*both(LOW, 0.99, 0.95, 0.5), *both(HIGH, 0.99, 0.95, 0.5)]
    told = [Foretold(c.trace, c.load, n, 0.01, 0.99, 0.995) for c in (LOW, HIGH) for n in (0, 1)]
    found = aims_of(records, told, Switched(10, 500.0, 20, 0, 9, {}, 2.0))
    assert [line for line in found if not line.endswith("True")] == []


def test_table_holds_every_cell_and_rival() -> None:
    results = Results([*both(LOW, 0.9, 0.8, 0.7), *both(HIGH, 0.3, 0.2, 0.1)], STATICS)
    told = [Foretold(c.trace, c.load, 0, 0.1, 0.88, 0.93) for c in (LOW, HIGH)]
    switched = Switched(10_000, 498.0, 10_000, 0, 4_000, {"a": 6_000}, 2.0)
    text = switching_tables.table(results, NAMES, told, switched, "Here.")
    assert "| poisson 0.3 x | 90.0 (10.0) | 80.0 (20.0) | 70.0 (30.0) |" in text
    assert "| poisson 5 x | +10.0 (+10.0 to +10.0) | 30/s | 10 ms | 20 ms |" in text
    assert "digits-96 25, digits-256 75 | 88.0 (10.0) | 93.0 |" in text
    assert "10,000 pins at 498/s under 10,000 requests: 4,000 times another variant" in text
    assert text.endswith("Here.")


def test_readme_has_the_place_for_the_tables() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("<!-- switching -->") == text.count("<!-- /switching -->") == 1


TINY = (family.Member("digits-4", 4, 1), family.Member("digits-16", 16, 2))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("family")
    family.build(folder, TINY, side=16)
    return folder


def test_wider_member_is_more_accurate_on_rows_it_was_not_fitted_to(tiny: Path) -> None:
    small, large = family.accuracies(tiny, TINY).values()
    assert 0.3 < small < large - 0.1


def test_family_that_is_there_is_not_built_again(tiny: Path) -> None:
    before = (tiny / "digits-4.onnx").stat().st_mtime_ns
    family.build(tiny, TINY, side=16)
    assert (tiny / "digits-4.onnx").stat().st_mtime_ns == before


@pytest.fixture
def world(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole comparison on two tiny members, with the server of this environment."""
    monkeypatch.setattr(family, "MEMBERS", TINY)
    monkeypatch.setattr(rivals, "FAMILY", tiny)
    monkeypatch.setattr(switching, "FAMILY", tiny)
    for module in (contenders, rivals, switching):
        monkeypatch.setattr(module, "BUILD", tmp_path)
    here = Path(sys.executable).parents[1]
    for module in (contenders, rivals):
        monkeypatch.setattr(module, "BASE", here)
    statics = {f"static-{m.name}": lambda name=m.name: rivals.static(name) for m in TINY}
    monkeypatch.setattr(switching, "CHOICES", {OURS: rivals.ours, **statics})
    monkeypatch.setattr(switching, "STATICS", tuple(statics))
    monkeypatch.setitem(os.environ, "SCANFLOW_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_whole_comparison_runs_on_the_real_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "capacity", lambda *_: 100.0)  # not what the machine can do
    run = switching.Run([LOW, Cell("spike", 0.8)], repeats=1, seconds=2.0, pins=200, nice=0)
    result = switching.measure(run, list(switching.CHOICES))
    rows = [(each["rival"], each["trace"]) for each in result["records"]]
    assert sorted(set(rows)) == sorted(
        (k, t) for k in switching.CHOICES for t in ("poisson", "spike")
    )
    assert all(each["failed"] == 0 and each["answers"] for each in result["records"])
    assert {each["trace"] for each in result["foretold"]} == {"poisson", "spike"}
    assert all(0 < each["optimum"] <= 1 for each in result["foretold"])
    switched = result["switched"]
    assert (switched["pins"], switched["failed"]) == (200, 0)
    assert switched["changes"] > 0
    text = switching.text_of(result)
    assert "| poisson 0.3 x |" in text
    assert "failed requests, of 200, during 200 switches" in text


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_refused_pin_is_told() -> None:
    rival = replace(rivals.ours(), model="")
    with served(rival.contender) as server, openloop.fleet(1) as fleet:
        target = rival.target(server.url)
        with pytest.raises(RuntimeError, match=r"POST /plan/pin: 404 .*nobody"):
            pins.switched(fleet, target, 3, ("nobody",))
