"""Requests per second a client: a token bucket each, bounded in number."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from scanflow_serve.policies.errors import RequestError

MOST_CLIENTS = 4096  # buckets kept; the one unused for longest is forgotten, and starts full again


class Rates:
    """Token buckets: each holds one second's worth of requests, at least one.

    Args:
        rate_rps: Requests per second that a client may sustain.
        clock: Seconds, monotonic.
    """

    def __init__(self, rate_rps: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate_rps = rate_rps
        self.burst = max(1.0, rate_rps)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at

    def __len__(self) -> int:
        return len(self._buckets)

    def admit(self, client: str) -> None:
        """Take a token from the client's bucket.

        Raises:
            RequestError: 429, there is none; says when there will be.
        """
        now = self._clock()
        tokens, at = self._buckets.pop(client, (self.burst, now))
        tokens = min(self.burst, tokens + (now - at) * self.rate_rps)
        if tokens < 1.0:
            self._buckets[client] = (tokens, now)
            wait_s = (1.0 - tokens) / self.rate_rps
            raise RequestError(
                429,
                f"A client must send <= {self.rate_rps:g} requests/s (serve.limits.rate_rps),"
                f" got more. Retry in {wait_s:.3g} s.",
                retry_after_s=wait_s,
            )
        self._buckets[client] = (tokens - 1.0, now)
        if len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
