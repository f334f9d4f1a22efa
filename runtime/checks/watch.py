"""One check as the host runs it: isolated, with a life, a history and a checkpoint."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from scanflow_serve.policies.errors import StateError
from scanflow_serve.runtime.checks import conduct
from scanflow_serve.runtime.checks.configuration import Configured
from scanflow_serve.runtime.checks.flagged import FlaggedRows
from scanflow_serve.runtime.checks.isolation import (
    FIT_LIMIT_S,
    LIMIT_S,
    Bench,
    require_bounded,
)
from scanflow_serve.runtime.checks.lifecycle import Life
from scanflow_serve.runtime.checks.protocol import Check, Evidence, Reading, Verdicts
from scanflow_serve.runtime.checks.rows import Observed, Reference
from scanflow_serve.runtime.checks.storage import Checkpoint, Storage
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.tensors import Array

T = TypeVar("T")
Notify = Callable[[Event], None]

HISTORY = 512  # points kept for a plot
POINT_S = 1.0  # at most one a second
MEASURED_S = 30.0  # between two looks at what a check keeps: a walk over its objects


class Point(NamedTuple):
    """One point of a check's history.

    Attributes:
        at: Unix time, in s.
        rows: Live rows seen by then.
        score: As `Watch.score`; its largest since the last point.
        p_val: Of the latest row or window.
    """

    at: float
    rows: int
    score: float
    p_val: float | None
    state: str


@dataclass(slots=True)
class Watch:
    """One check, and all that the host knows of it.

    Attributes:
        inline: It works on the request path; the host only reads it, and keeps no state of it.
        weight: Share of its wealth in the model's; 0 if it does not bet.
        bench: Thread on which it is called; shared.
        digest: Of what its state is learned from; a checkpoint of another is not taken up.
        rows: Live rows it has looked at since it was armed.
        score: Weighted wealth, to be held against the run length; else its own statistic.
    """

    configured: Configured
    check: Check
    storage: Storage
    notify: Notify
    digest: str
    bench: Bench
    inline: bool = False
    weight: float = 0.0
    clock: Callable[[], float] = time.time
    limit_s: float = LIMIT_S
    life: Life = field(default_factory=Life)
    reading: Reading | None = None
    rows: int = 0
    score: float = 0.0
    flagged: FlaggedRows = field(default_factory=FlaggedRows)
    history: deque[Point] = field(default_factory=lambda: deque(maxlen=HISTORY))
    _warned: set[str] = field(default_factory=set)
    _largest: float = 0.0
    _measured: float = -math.inf

    @property
    def name(self) -> str:
        """Return the check's name in the policy."""
        return self.configured.name

    @property
    def armed(self) -> bool:
        """Return whether it watches."""
        return self.life.phase == "armed" and not self.life.disabled

    @property
    def bets(self) -> bool:
        """Return whether its wealth counts towards the model's."""
        of_drift = self.check.family in ("drift", "balance")
        return of_drift and getattr(self.check, "bets", True) and not self.life.disabled

    def fit(self, reference: Reference) -> None:
        """Fit the check to *reference* and arm it; one that refuses is disabled."""
        self.life = self.life.calibrating(self.clock())
        if self._guarded(self.check.fit, reference, limit_s=FIT_LIMIT_S) is not _FAILED:
            self.arm()
            self._warn()

    def fit_answers(self, reference: Reference) -> None:
        """Fit what looks at answers, where the check has such a part of its own."""
        part = getattr(self.check, "fit_answers", None)
        if part is not None and not self.life.disabled:
            self._guarded(part, reference, limit_s=FIT_LIMIT_S)
            self._warn()

    def arm(self) -> None:
        """Let it watch from now on."""
        if not self.armed and not self.life.disabled:
            self.life = self.life.armed(self.clock())
            self._tell("armed: it knows normal times")

    def observe(self, rows: Observed) -> Verdicts | None:
        """Let it look at live rows; None where it has no say, or failed."""
        if not self.armed:
            return None
        verdicts = self._guarded(conduct.verdicts, self.check, rows)
        if verdicts is _FAILED:
            return None
        self.flagged.note(rows, verdicts)
        self.rows += rows.rows
        return verdicts  # type: ignore[no-any-return]  # the check's own, or None

    def p_values(self, rows: Observed) -> Array | None:
        """Return the p-value of each row, where the policy wants replies to tell; else None.

        On the request's path: what raises is disabled, and the request is answered without.
        """
        judge = getattr(self.check, "p_values", None)
        if not (self.configured.in_reply and self.armed) or judge is None:
            return None
        try:
            found: Array | None = judge(rows)
        except Exception as error:
            self.disable(_told(error))
            return None
        return found

    def read(self, run_length: float, rows: int) -> None:
        """Take its reading and let its life go on.

        Args:
            run_length: A: weighted wealth at which it alarms.
            rows: It has seen since the last reading.
        """
        reading = self._guarded(conduct.reading, self.check)
        if reading is _FAILED:
            return
        self.reading = reading
        if reading.wealth is None:
            self.score = reading.statistic
            share = 1.0 if reading.alarm else 0.0
        else:
            peak = reading.wealth if reading.peak is None else reading.peak
            self.score = self.weight * reading.wealth
            share = self.weight * peak / run_length
        self._note(max(self.score, share * run_length if reading.wealth is not None else 0.0))
        self.step(share, rows)

    def step(self, share: float, rows: int) -> None:
        """Let its life go on; a new alarm is explained, kept on the disk, and told."""
        before = self.life.state
        life = self.life.read(share, rows, self.clock())
        if life.state == before:
            self.life = life
            return
        if life.state == "alarm":  # whoever sees the alarm sees its evidence
            life = life.explained(self._evidence())
            if not self.life.disabled:
                self.checkpoint(sync=True, life=life)  # first, so that no alarm is seen and lost
            if self.life.disabled:  # explaining or keeping it failed
                return
        self.life = life
        self._tell(f"{before} -> {self.life.state}", **self._said())

    def acknowledge(self, who: str, reason: str) -> None:
        """Take note that a person has seen the alarm; the check goes on from nothing.

        Raises:
            ValueError: It is not in alarm.
        """
        self.life = self.life.acknowledge(who, reason, self.clock())
        self._guarded(self.check.acknowledge)
        self.score = 0.0
        self.checkpoint(sync=True)
        self._tell(f"acknowledged by {who}: {reason}", who=who, reason=reason)

    def rebase(self, who: str, reason: str, check: Check) -> None:
        """Begin anew with *check*, which knows nothing: a person says that times have changed."""
        self.check, self.reading, self.rows, self.score = check, None, 0, 0.0
        self.life = self.life.rebase(who, reason, self.clock())
        self.storage.forget(self.name)
        self._tell(f"rebased by {who}: {reason}", who=who, reason=reason)

    def checkpoint(self, *, sync: bool = False, life: Life | None = None) -> None:
        """Keep its state on the disk, as of *life*; where that fails, say so and go on."""
        if self.inline:
            return
        life = life or self.life
        arrays: Any = {}
        if life.phase == "armed" and not life.disabled:
            arrays = self._guarded(conduct.state, self.check)
            if arrays is _FAILED:
                return
            self._measure()
        document = {"life": life.to_json(), "rows": self.rows}
        try:
            self.storage.save(self.name, Checkpoint(self.digest, document, arrays), sync=sync)
        except StateError as error:
            self._tell(f"can't keep its state: {error}")

    def resume(self) -> bool:
        """Take up what was kept; return whether there was something, and it is armed."""
        kept = self.storage.load(self.name, self.digest)
        return kept is not None and self.take_up(kept)

    def take_up(self, kept: Checkpoint) -> bool:
        """Go on where *kept* was; return whether it is armed."""
        life = Life.from_json(dict(kept.document["life"]))
        if life.disabled or life.phase != "armed":
            return False  # a restart is a new chance
        if self._guarded(self.check.restore, kept.arrays, limit_s=FIT_LIMIT_S) is _FAILED:
            return False
        self.life, self.rows = life, int(kept.document["rows"])
        return True

    def merge(self, others: Sequence[Checkpoint]) -> None:
        """Count the states of replicas in, which saw other rows."""
        if self._guarded(self.check.merge, [each.arrays for each in others]) is not _FAILED:
            self.rows += sum(int(each.document["rows"]) for each in others)

    def disable(self, why: str) -> None:
        """Switch it off for good, with an event; the others and the server go on."""
        self.life = self.life.disable(why, self.clock())
        self._tell(f"disabled: {why}", reason=why)

    def _guarded(self, function: Callable[..., T], *given: Any, limit_s: float = 0.0) -> Any:
        """Return what *function* returns; `_FAILED`, and it is disabled, if that goes wrong."""
        if self.life.disabled:
            return _FAILED
        try:
            return self.bench.call(function, *given, limit_s=limit_s or self.limit_s)
        except BaseException as error:  # whatever a plug-in raises ends the plug-in alone
            if isinstance(error, KeyboardInterrupt):
                raise
            self.disable(_told(error))
            return _FAILED

    def _warn(self) -> None:
        """Say why its promise won't hold, each reason once."""
        for caution in getattr(self.check, "cautions", ()):
            if caution not in self._warned:
                self._warned.add(caution)
                self._tell(f"caution: {caution}", caution=caution)

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measured >= MEASURED_S:
            self._measured = now
            self._guarded(require_bounded, self.check)

    def _evidence(self) -> Evidence | None:
        explain = getattr(self.check, "explain", None)
        found = None if explain is None else self._guarded(explain)
        if isinstance(found, Evidence):
            return found
        return None if self.reading is None else self.reading.evidence

    def _note(self, score: float) -> None:
        now = self.clock()
        self._largest = max(self._largest, score)
        if self.history and now - self.history[-1].at < POINT_S:
            return
        p_val = None if self.reading is None else self.reading.p_val
        self.history.append(Point(now, self.rows, self._largest, p_val, self.life.state))
        self._largest = 0.0

    def _said(self) -> dict[str, str | None]:
        evidence = self.life.evidence
        if self.life.state != "alarm" or evidence is None:
            return {}
        moved = ", ".join(str(each["name"]) for each in evidence.features)
        return {"detector": evidence.detector, "since": evidence.since, "features": moved}

    def _tell(self, text: str, **details: str | None) -> None:
        said = {"state": self.life.state, "phase": self.life.phase, **details}
        figures = {"score": self.score, "rows": float(self.rows)}
        self.notify(Event("check", self.name, f"check {self.name}: {text}", figures, said))


class _Failed:
    pass


_FAILED = _Failed()


def _told(error: BaseException) -> str:
    text = str(error) or "no text"
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"
