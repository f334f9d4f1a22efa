"""How a variant does at present: its speed against its profile, and whether it may answer."""

from __future__ import annotations

import math

GAIN = 0.1  # weight of one call in the moving ratio: about the last twenty calls count
LARGEST_STEP = 3.0  # one call moves the ratio as if it had been at most this many times off
STALE_S = 5.0  # s without a call, after which a ratio drifts to the host's
IDLE_S = 1.0  # s without any call on the host, after which it drifts to 1
DRIFT = 0.05  # of the way, a tick


class Health:
    """One variant's moving latency ratio and circuit breaker; shared by all lanes that use it.

    Attributes:
        ratio: Measured over profiled latency, a moving geometric mean; 1 at first.
        failures: Calls failed in a row.
        open_until: When it may be tried again; 0 while it is in rotation.
        trying: A trial call is on its way.
    """

    __slots__ = ("failures", "open_until", "opened", "ratio", "seen", "trying")

    def __init__(self) -> None:
        self.ratio = 1.0
        self.seen = -math.inf
        self.failures = 0
        self.opened = 0
        self.open_until = 0.0
        self.trying = False

    @property
    def closed(self) -> bool:
        """Return whether it is in rotation."""
        return self.open_until == 0.0

    def may_answer(self, now: float) -> bool:
        """Return whether it is in rotation, or due for a trial."""
        return self.open_until == 0.0 or (now >= self.open_until and not self.trying)

    def observe(self, measured_ms: float, profiled_ms: float, now: float) -> None:
        """Count one call that took *measured_ms* where *profiled_ms* were expected."""
        off = measured_ms / (profiled_ms * self.ratio)
        off = min(max(off, 1 / LARGEST_STEP), LARGEST_STEP)
        self.ratio *= off**GAIN
        self.seen = now

    def drift(self, host_ratio: float | None, now: float) -> None:
        """Forget slowly what no call has confirmed.

        Args:
            host_ratio: Of what does run: throttling and neighbours slow down all alike. None if
                nothing runs: a ratio so bad that every request is refused must not last, since
                only a request can tell that it has passed.
        """
        quiet_s = now - self.seen
        if host_ratio is not None and quiet_s > STALE_S:
            self.ratio += DRIFT * (host_ratio - self.ratio)
        elif host_ratio is None and quiet_s > IDLE_S:
            self.ratio += DRIFT * (1.0 - self.ratio)

    def open(self, now: float, backoff_s: float, longest_s: float) -> float:
        """Take it out of rotation; return for how long, in s: doubled at each time in a row."""
        pause_s = min(backoff_s * 2.0**self.opened, longest_s)
        self.opened += 1
        self.open_until = now + pause_s
        self.trying = False
        return pause_s

    def close(self) -> None:
        """Put it back into rotation."""
        self.failures = self.opened = 0
        self.open_until = 0.0
        self.trying = False
