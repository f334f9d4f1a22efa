"""What a request costs the event loop's thread beside inference: HTTP, queue, answer."""

from __future__ import annotations

FEWEST = 20  # requests of a reading; of fewer, what the loop does anyway would weigh more
WEIGHT = 0.2  # of one reading


class Upkeep:
    """Processor time of one request, answered or refused, on the thread that reads them.

    Attributes:
        ms: A moving mean; None until there was traffic.
    """

    def __init__(self) -> None:
        self.ms: float | None = None
        self._last: tuple[float, int] | None = None
        self._cpu_s = 0.0  # of the ticks since the last reading in which requests came
        self._came = 0

    def tick(self, cpu_s: float, requests: int) -> None:
        """Take a reading. What an idle loop does is no request's cost.

        Args:
            cpu_s: Processor time of the thread so far, without calls of models.
            requests: That have come so far.
        """
        before, self._last = self._last, (cpu_s, requests)
        if before is None or requests == before[1]:
            return
        self._cpu_s += cpu_s - before[0]
        self._came += requests - before[1]
        if self._came < FEWEST:
            return
        each_ms = 1000 * self._cpu_s / self._came
        self.ms = each_ms if self.ms is None else self.ms + WEIGHT * (each_ms - self.ms)
        self._cpu_s, self._came = 0.0, 0
