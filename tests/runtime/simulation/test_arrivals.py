from __future__ import annotations

import statistics
from itertools import pairwise

import pytest

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.simulation.arrivals import (
    EXAMPLES,
    LOADS,
    Arrival,
    describes,
    drawn,
    parse,
)


def times(text: str, seed: int = 1) -> list[float]:
    return [arrival.at for arrival in drawn(parse(text), seed)]


def variation(at: list[float]) -> float:
    """Return the squared coefficient of variation of the gaps."""
    gaps = [after - before for before, after in pairwise(at)]
    return statistics.pvariance(gaps) / statistics.fmean(gaps) ** 2


def rate(at: list[float], begin: float, end: float) -> float:
    return sum(begin <= each < end for each in at) / (end - begin)


@pytest.mark.parametrize("text", EXAMPLES.values())
def test_seed_decides_the_arrivals(text: str) -> None:
    assert times(text, seed=3) == times(text, seed=3)
    assert times(text, seed=3) != times(text, seed=4)


@pytest.mark.parametrize("kind", LOADS)
def test_every_kind_has_an_example_whose_arrivals_are_in_order_and_in_time(kind: str) -> None:
    load = parse(EXAMPLES[kind])
    found = [arrival.at for arrival in drawn(load, 1)]
    assert isinstance(load, LOADS[kind])
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] < load.seconds == 60


def test_poisson_has_its_rate_and_the_variation_of_independent_clients() -> None:
    found = times("poisson:rate=200,seconds=100")
    assert len(found) == pytest.approx(20_000, rel=0.03)
    assert variation(found) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize("cv2", [0.25, 4, 16])
def test_gamma_has_its_rate_and_its_variation(cv2: float) -> None:
    found = times(f"gamma:rate=200,cv2={cv2},seconds=200")
    assert len(found) == pytest.approx(40_000, rel=0.06)
    assert variation(found) == pytest.approx(cv2, rel=0.1)


def test_mmpp_has_the_mean_of_its_rates_and_more_variation_than_poisson() -> None:
    found = times("mmpp:low=20,high=180,dwell_s=1,seconds=1000")
    assert len(found) == pytest.approx(100_000, rel=0.1)
    assert variation(found) > 1.5


def test_step_and_spike_change_their_rate_when_they_say() -> None:
    step = times("step:low=50,high=400,at=30")
    assert rate(step, 0, 30) == pytest.approx(50, rel=0.1)
    assert rate(step, 30, 60) == pytest.approx(400, rel=0.1)
    spike = times("spike:base=50,peak=800,at=20,width=5")
    assert rate(spike, 0, 20) == pytest.approx(50, rel=0.15)
    assert rate(spike, 20, 25) == pytest.approx(800, rel=0.1)
    assert rate(spike, 25, 60) == pytest.approx(50, rel=0.15)


def test_seconds_of_the_command_prevail_and_keep_what_comes_before() -> None:
    load = parse("spike:base=50,peak=800,at=20,width=5,rows=3")
    short = drawn(load, 1, seconds=10)
    assert short == [arrival for arrival in drawn(load, 1) if arrival.at < 10]
    assert {arrival.rows for arrival in short} == {3}


def test_only_names_of_loads_describe_one() -> None:
    assert describes("poisson:rate=1")
    assert not describes("traces/poisson.csv")
    assert not describes("C:trace.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poisson", r"poisson: rate: Field required, got nothing; it takes rate, rows, seconds"),
        ("poisson:rate=fast", r"rate: Input should be a valid number.*got 'fast'"),
        ("poisson:rate=-5", r"rate: Input should be greater than 0, got '-5'"),
        ("poisson:rate=nan", r"rate: Input should be a finite number"),
        ("poisson:rate=5,rats=3", r"rats: Unexpected keyword argument, got '3'"),
        ("poisson:rate", r"must be KEY=VALUE, each key once, got 'rate'"),
        ("poisson:rate=5,rate=6", r"each key once, got 'rate=6'"),
        ("gamma:rate=5", r"cv2: Field required.*for example gamma:rate=200,cv2=4"),
        ("poisson:rate=5,rows=0", r"rows: Input should be greater than or equal to 1"),
        ("poisson:rate=5,seconds=1e9", r"seconds: Input should be less than or equal to 86400"),
    ],
)
def test_malformed_load_is_refused_with_an_example(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"--trace: .*{message}"):
        parse(text)


def test_load_of_too_many_requests_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(UsageError, match=r"at most 1,000,000 arrivals, got more within 0\.\d+ s"):
        drawn(parse("gamma:rate=1e9,cv2=0.5"), 1)


def test_load_without_any_request_is_refused() -> None:
    with pytest.raises(UsageError, match=r"must have an arrival within its 60 s, got none"):
        drawn(parse("step:low=0,high=0,at=1"), 1)


def test_arrival_is_one_row_of_nobody_in_particular() -> None:
    assert Arrival(1.0) == Arrival(1.0, rows=1, client="", deadline_ms=None, priority=0)
