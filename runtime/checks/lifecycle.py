"""Phases and states of a check: what people see of it, latched until they have.

A pure state machine: time is an argument, and what it reports is a value. Phases go one way
(collecting, calibrating, armed); an alarm stays until a person acknowledges it, and only a person
sends a check back to collect anew (`rebase`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from scanflow_serve.runtime.checks.protocol import Evidence

Phase: TypeAlias = Literal["collecting", "calibrating", "armed"]
State: TypeAlias = Literal["off", "ok", "warn", "alarm", "acknowledged"]

WARN_SHARE = 0.1  # of the alarm's threshold: a warning comes ten times as often as a false alarm
CALM_SHARE = 0.01  # where a warning ends; without a gap between the two it would flicker
RESTED_ROWS = 200  # without a warning, after an acknowledgement: then all is well again
SEVERITY: tuple[State, ...] = ("off", "ok", "acknowledged", "warn", "alarm")


def worst(states: tuple[State, ...]) -> State:
    """Return the gravest of *states*, ``off`` of none.

    >>> worst(("ok", "alarm", "acknowledged"))
    'alarm'
    """
    return max(states, key=SEVERITY.index, default="off")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Who has seen an alarm, and what they say of it.

    Attributes:
        at: Unix time, in s.
    """

    who: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Life:
    """Where a check stands.

    Attributes:
        since: Unix time at which the state began, in s.
        why: What it waits for, or why it is off; one sentence.
        rested: Rows without a warning since the acknowledgement.
        alarms: How many alarms there have been.
        evidence: Of the alarm that is latched or was acknowledged last.
        disabled: It failed, and is looked at no more.
    """

    phase: Phase = "collecting"
    state: State = "off"
    since: float = 0.0
    why: str = ""
    rested: int = 0
    alarms: int = 0
    evidence: Evidence | None = None
    acknowledged: Acknowledgement | None = None
    disabled: bool = False

    def collecting(self, why: str) -> Life:
        """Return it still gathering rows."""
        return replace(self, phase="collecting", state="off", why=why)

    def calibrating(self, now: float) -> Life:
        """Return it being fitted."""
        return replace(self, phase="calibrating", state="off", since=now, why="fits its reference")

    def armed(self, now: float) -> Life:
        """Return it watching."""
        return replace(self, phase="armed", state="ok", since=now, why="", rested=0)

    def read(self, share: float, rows: int, now: float) -> Life:
        """Return it after *rows* more rows.

        Args:
            share: Statistic as a share of the alarm's threshold; 1 and more alarms.
        """
        if self.phase != "armed" or self.state == "alarm" or self.disabled:
            return self
        if share >= 1:
            return replace(
                self, state="alarm", since=now, alarms=self.alarms + 1, acknowledged=None, rested=0
            )
        warning = share >= (CALM_SHARE if self.state == "warn" else WARN_SHARE)
        if self.state == "acknowledged":
            rested = 0 if warning else self.rested + rows
            if rested < RESTED_ROWS:
                return replace(self, rested=rested)
            return replace(self, state="ok", since=now, rested=0, evidence=None)
        state: State = "warn" if warning else "ok"
        return self if state == self.state else replace(self, state=state, since=now)

    def explained(self, evidence: Evidence | None) -> Life:
        """Return it with the evidence of its alarm."""
        return replace(self, evidence=evidence)

    def acknowledge(self, who: str, reason: str, now: float) -> Life:
        """Return it with its alarm seen by a person.

        Raises:
            ValueError: It is not in alarm.
        """
        if self.state != "alarm":
            raise ValueError(f"state must be alarm, got {self.state!r}. Nothing to acknowledge.")
        seen = Acknowledgement(who, reason, now)
        return replace(self, state="acknowledged", since=now, acknowledged=seen, rested=0)

    def rebase(self, who: str, reason: str, now: float) -> Life:
        """Return it collecting a new reference, as a person has asked."""
        return Life(
            since=now,
            why="collects a new reference",
            alarms=self.alarms,
            acknowledged=Acknowledgement(who, reason, now),
        )

    def disable(self, why: str, now: float) -> Life:
        """Return it switched off for good: it failed."""
        return replace(self, state="off", since=now, why=why, disabled=True)

    def to_json(self) -> dict[str, Any]:
        """Return the form in which it is kept over a restart."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Life:
        """Return what `to_json` wrote."""
        evidence, seen = value["evidence"], value["acknowledged"]
        return cls(
            **{
                **value,
                "evidence": None if evidence is None else _evidence(evidence),
                "acknowledged": None if seen is None else Acknowledgement(**seen),
            }
        )


def _evidence(value: dict[str, Any]) -> Evidence:
    return Evidence(**{**value, "rows": tuple(value["rows"]), "features": tuple(value["features"])})


@dataclass(slots=True)
class Hush:
    """Says which alarms are news: each once, and none within `cooldown_s` after the last one told.

    Attributes:
        told: Number of the alarm that was told last, see `Life.alarms`.
        last: When that was.
    """

    cooldown_s: float = 300.0
    told: int = 0
    last: float = -math.inf

    def news(self, life: Life, now: float) -> bool:
        """Return whether the alarm of *life* is to be told now.

        One that falls into the pause is told when it ends, if it still holds.
        """
        if life.state != "alarm" or life.alarms == self.told or now - self.last < self.cooldown_s:
            return False
        self.told, self.last = life.alarms, now
        return True
