"""What a request costs the event loop's thread beside inference: HTTP, queue, answer."""

from __future__ import annotations

FEWEST = 20  # requests between two readings; of fewer, what the loop does anyway would weigh more
WEIGHT = 0.2  # of one reading


class Upkeep:
    """Processor time of one request, answered or refused, on the thread that reads them.

    Attributes:
        ms: A moving mean; None until there was traffic.
    """

    def __init__(self) -> None:
        self.ms: float | None = None
        self._cpu_s: float | None = None
        self._requests = 0

    def tick(self, cpu_s: float, requests: int) -> None:
        """Take a reading.

        Args:
            cpu_s: Processor time of the thread so far, without calls of models.
            requests: That have come so far.
        """
        came = requests - self._requests
        if self._cpu_s is not None and 0 <= came < FEWEST:
            return
        if self._cpu_s is not None and came > 0:
            each_ms = 1000 * (cpu_s - self._cpu_s) / came
            self.ms = each_ms if self.ms is None else self.ms + WEIGHT * (each_ms - self.ms)
        self._cpu_s, self._requests = cpu_s, requests
