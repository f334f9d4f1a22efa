"""Ten thousand switches under load: variants pinned in turn, a pin for every request."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import cycle, pairwise
from urllib.parse import urlsplit

import numpy as np
from openloop import LEAD_S, Fleet, Schedule, Target

RATE = 500.0  # pins a second, and requests a second
GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Switched:
    """What came of it.

    Attributes:
        pins: Sent, all accepted.
        requests: Sent meanwhile.
        failed: Of these, not answered with 200.
        changes: Times that another variant answered than the request before, by due time.
        answers: By model.
        p99_ms: Of answers.
    """

    pins: int
    pins_per_s: float
    requests: int
    failed: int
    changes: int
    answers: Mapping[str, int]
    p99_ms: float


def switched(fleet: Fleet, target: Target, pins: int, names: tuple[str, ...]) -> Switched:
    """Return what became of the requests while *names* were pinned in turn.

    Raises:
        RuntimeError: A pin was refused.
    """
    pinning = _Pinning(target.url, pins, names)
    pinning.start()
    at = np.arange(pins) / RATE
    schedule = Schedule(at, np.arange(len(at)) % len(target.bodies))
    found = fleet.send(target, schedule, grace_s=GRACE_S)
    pinning.join()
    if pinning.fault:
        raise RuntimeError(f"POST /plan/pin: {pinning.fault}")
    by = [name for name in found.by if name]
    return Switched(
        pins=pinning.done,
        pins_per_s=pinning.done / pinning.took_s,
        requests=len(found),
        failed=int((found.status != 200).sum()),
        changes=sum(a != b for a, b in pairwise(by)),
        answers={name: by.count(name) for name in names},
        p99_ms=float(np.percentile(found.latency_s[found.status == 200], 99)) * 1000,
    )


class _Pinning(threading.Thread):
    """Pins one after the other on one connection, at `RATE` or as quickly as they are accepted."""

    def __init__(self, url: str, pins: int, names: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self._host = urlsplit(url).netloc
        self._pins = pins
        self._names = names
        self.done = 0
        self.took_s = 1.0
        self.fault = ""

    def run(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        began = time.perf_counter() + LEAD_S
        for number, name in zip(range(self._pins), cycle(self._names), strict=False):
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            body = json.dumps({"variant": name})
            try:
                connection.request("POST", "/plan/pin", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
            except OSError as error:
                self.fault = repr(error)
                break
            if answer.status != 200:
                self.fault = f"{answer.status} {text[:300]!r} for {body}"
                break
            self.done += 1
        self.took_s = time.perf_counter() - began
        connection.close()
