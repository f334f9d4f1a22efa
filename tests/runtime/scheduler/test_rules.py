"""When a rule of the policy acts, and what several ask for together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scanflow_serve.policies.schema import Adapt
from scanflow_serve.runtime.scheduler.rules import Asked, Rules


class Above:
    """Holds where a value exceeds a bound."""

    def __init__(self, key: str, bound: float) -> None:
        self.key, self.bound = key, bound

    def holds(self, values: Mapping[str, Any], /) -> bool:
        return bool(values[self.key] > self.bound)


def rule(**fields: Any) -> Adapt:
    return Adapt.model_validate({"when": "latency.p95_ms > 10", "prefer": "latency"} | fields)


def acting(rules: Rules, series: list[float], step_s: float = 1.0) -> list[bool]:
    """Return after each value whether the first rule acts."""
    active, found = False, []
    for tick, value in enumerate(series):
        for change in rules.tick({"x": value}, tick * step_s):
            if change.index == 0:
                active = change.active
        found.append(active)
    return found


def test_rule_acts_once_its_condition_has_held_long_enough() -> None:
    rules = Rules([(rule(for_s=2), Above("x", 0))])
    assert acting(rules, [1, 1, 1, 1]) == [False, False, True, True]


def test_break_starts_the_wait_anew() -> None:
    rules = Rules([(rule(for_s=2), Above("x", 0))])
    assert acting(rules, [1, 1, 0, 1, 1, 1]) == [False, False, False, False, False, True]


def test_rule_acts_until_its_condition_has_failed_for_the_cooldown() -> None:
    rules = Rules([(rule(cooldown_s=2), Above("x", 0))])
    assert acting(rules, [1, 0, 1, 0, 0, 0]) == [True, True, True, True, False, False]


def test_rule_that_acts_does_not_begin_again() -> None:
    rules = Rules([(rule(cooldown_s=5), Above("x", 0))])
    changes = [change for tick in range(20) for change in rules.tick({"x": tick % 2}, tick)]
    assert [change.active for change in changes] == [True]


def test_first_rule_that_acts_prevails() -> None:
    rules = Rules(
        [
            (rule(prefer=None, use="small"), Above("x", 5)),
            (rule(prefer="accuracy", use="large"), Above("x", 0)),
            (rule(prefer="latency"), Above("x", 0)),
        ]
    )
    rules.tick({"x": 1}, 0.0)
    assert rules.asked == Asked(prefer="accuracy", use="large")
    rules.tick({"x": 9}, 1.0)
    assert rules.asked == Asked(prefer="accuracy", use="small")
    rules.tick({"x": 0}, 2.0)
    assert rules.asked == Asked()
