"""How much of the host may be planned with."""

from __future__ import annotations

import random

import pytest

from scanflow_serve.runtime.scheduler.headroom import planned_load
from scanflow_serve.runtime.scheduler.rates import Rate

BOUNDS = {"least": 0.85, "most": 0.95}


def test_bursts_leave_less_to_plan_with() -> None:
    loads = [planned_load(each, 14.0, 420.0, **BOUNDS) for each in (0.5, 1.0, 1.5, 4.0)]
    assert loads == sorted(loads, reverse=True)
    assert loads[1] == pytest.approx(0.925, abs=0.001)
    assert loads[-1] == BOUNDS["least"]


def test_cheap_rows_and_long_deadlines_leave_most() -> None:
    assert planned_load(1.0, 1.0, 420.0, **BOUNDS) == BOUNDS["most"]
    assert planned_load(1.0, 14.0, 10_000.0, **BOUNDS) == BOUNDS["most"]


@pytest.mark.parametrize("slack_ms", [0.0, -5.0])
def test_no_time_to_wait_leaves_least(slack_ms: float) -> None:
    assert planned_load(1.0, 1.0, slack_ms, **BOUNDS) == BOUNDS["least"]


@pytest.mark.parametrize("cv2", [0.25, 1.0, 4.0])
def test_variation_tells_bursts_from_even_arrivals(cv2: float) -> None:
    rate, draw = Rate(0.0, 0.5, 4.0), random.Random(1)
    at = draw.gammavariate(1 / cv2, cv2 / 100)
    seen = []
    for tick in range(1, 3000):
        while at < tick / 10:
            rate.add(1)
            at += draw.gammavariate(1 / cv2, cv2 / 100)
        rate.tick(tick / 10)
        seen.append(rate.variation)
    settled = seen[200:]
    assert sum(settled) / len(settled) == pytest.approx(cv2, rel=0.3)
