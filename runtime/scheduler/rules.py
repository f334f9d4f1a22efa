"""The policy's `adapt` rules: which hold for long enough, and what they ask for meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scanflow_serve.policies.schema import Adapt, Prefer


class Holds(Protocol):
    """A compiled condition; see `policies.conditions.Condition`."""

    def holds(self, values: Mapping[str, Any], /) -> bool:
        """Return whether the condition is true of *values*."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A rule that began or ceased to act.

    Attributes:
        index: Of the rule in the policy, 0-based.
        active: Whether it acts from now on.
    """

    index: int
    rule: Adapt
    active: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What the rules that act ask for; of several, the first in the policy's order prevails."""

    prefer: Prefer | None = None
    use: str | None = None


class _Watch:
    """One rule and what became of it."""

    __slots__ = ("active", "condition", "held_at", "rule", "since")

    def __init__(self, rule: Adapt, condition: Holds) -> None:
        self.rule = rule
        self.condition = condition
        self.active = False
        self.since: float | None = None  # the condition has held without a break
        self.held_at = 0.0  # when it held last

    def tick(self, values: Mapping[str, Any], now: float) -> bool:
        """Return whether the rule began or ceased to act."""
        if self.condition.holds(values):
            self.since = now if self.since is None else self.since
            self.held_at = now
            begins = not self.active and now - self.since >= self.rule.for_s
            self.active |= begins
            return begins
        self.since = None
        if self.active and now - self.held_at >= self.rule.cooldown_s:
            self.active = False
            return True
        return False


class Rules:
    """All rules of a policy, with a memory of how long each has held.

    A rule begins to act once its condition has held for `for_s` without a break. It acts until
    the condition has not held for `cooldown_s`: what a rule brings about (a lower latency) often
    ends what it was for. While it acts it does not begin again, so that its alert or retraining
    is asked for once.
    """

    def __init__(self, rules: Sequence[tuple[Adapt, Holds]]) -> None:
        self._watches = [_Watch(rule, condition) for rule, condition in rules]

    def __len__(self) -> int:
        return len(self._watches)

    def tick(self, values: Mapping[str, Any], now: float) -> list[Change]:
        """Evaluate all conditions at the time *now*, in s; return what changed.

        Args:
            values: Of `policies.vocabulary.ADAPT_VARIABLES`.
        """
        return [
            Change(index, watch.rule, watch.active)
            for index, watch in enumerate(self._watches)
            if watch.tick(values, now)
        ]

    @property
    def asked(self) -> Asked:
        """Return what the rules that act ask for."""
        acting = [watch.rule for watch in self._watches if watch.active]
        return Asked(
            prefer=next((rule.prefer for rule in acting if rule.prefer), None),
            use=next((rule.use for rule in acting if rule.use), None),
        )
