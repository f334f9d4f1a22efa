"""What happened, for people and machines: a bounded log that can be read, and listened to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from threading import Lock
from typing import Any, Literal, TypeAlias

# decision: another option answers a lane. rule: an `adapt` rule began or ceased to act.
# alert, retrain: what such a rule asked for. load, unload: of a model. pin: by an operator.
# failure, recovery: a variant left or rejoined the rotation. reload: of the policy.
# check: the state of a check on live traffic changed, or it failed.
Kind: TypeAlias = Literal[
    "decision",
    "rule",
    "alert",
    "retrain",
    "load",
    "unload",
    "pin",
    "failure",
    "recovery",
    "reload",
    "check",
]

KEPT = 1000


def iso_time(seconds: float) -> str:
    """Return a time of the wall clock, in s since 1970, as RFC 3339 in UTC with milliseconds.

    >>> iso_time(0.5)
    '1970-01-01T00:00:00.500Z'
    """
    at = datetime.fromtimestamp(seconds, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: What sort of thing.
        source: What it happened to: a lane, model or variant, a rule (``adapt[0]``), ``policy``.
        text: One sentence for people.
        figures: What decided, or was measured.
        details: What else a machine may read, such as ``from``, ``to``, ``reason``.
        time: By the wall clock, in s since 1970.
    """

    kind: Kind
    source: str
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str | None] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as ``GET /events`` shows it."""
        return {
            "time": iso_time(self.time),
            "kind": self.kind,
            "source": self.source,
            "text": self.text,
            "figures": dict(self.figures),
            "details": dict(self.details),
        }


Notify: TypeAlias = Callable[[Event], None]
Listener: TypeAlias = Callable[[], object]


class EventLog:
    """The latest events, each with an id; for any number of threads.

    Ids rise by one. The first is the wall clock's, in ms, so that they rise across restarts too:
    a client that was away asks for what came after the last one it saw.

    Args:
        kept: Events at most; the oldest are forgotten.
        clock: Seconds since 1970.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.time) -> None:
        self._events: deque[Event] = deque(maxlen=kept)
        self._next = int(clock() * 1000)
        self._listeners: list[Listener] = []
        self._lock = Lock()

    @property
    def latest(self) -> int:
        """Return the id of the event that came last; where none did, one before the first."""
        return self._next - 1

    def add(self, event: Event) -> None:
        """Keep *event*, and tell who listens."""
        with self._lock:
            self._next += 1
            self._events.append(event)
            listeners = tuple(self._listeners)
        for listener in listeners:
            listener()

    def after(self, identity: int | None = None, limit: int = KEPT) -> list[tuple[int, Event]]:
        """Return the first *limit* of the kept events that came after *identity*, oldest first.

        Args:
            identity: None, or one that this log has not given yet (another's, from before the
                clock was set back): the last *limit* of all.
        """
        with self._lock:
            first = self._next - len(self._events)
            if identity is None or identity >= self._next:
                start = max(0, len(self._events) - limit)
            else:
                start = max(0, identity + 1 - first)
            found = islice(self._events, start, start + limit)
            return list(enumerate(found, start=first + start))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call *listener* after each event, in the thread that adds it; return what ends that."""
        with self._lock:
            self._listeners.append(listener)

        def end() -> None:
            with self._lock, suppress(ValueError):
                self._listeners.remove(listener)

        return end
