"""What the product's own simulator says of the same arrivals, and what nothing could exceed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from openloop import Schedule

from scanflow_serve.runtime.measurements import Latency
from scanflow_serve.runtime.scheduler.curve import Curve
from scanflow_serve.runtime.scheduler.jobs import Option
from scanflow_serve.runtime.simulation.arrivals import Arrival
from scanflow_serve.runtime.simulation.optimum import optimum
from scanflow_serve.serving import simulation


@dataclass(frozen=True, slots=True)
class Foretold:
    """Of one cell and one repeat.

    Attributes:
        misses: Share of requests without an answer in time.
        effective: Sum of the accuracy of answers in time, over all requests.
        optimum: Effective accuracy that no scheduling exceeds.
    """

    trace: str
    load: float
    repeat: int
    misses: float
    effective: float
    optimum: float


def subject(policy: Path, cache: Path, ratio: Mapping[str, float]) -> simulation.Subject:
    """Return what is to be simulated: the plan by which *policy* was served.

    Args:
        cache: `SCANFLOW_CACHE` of the server.
        ratio: By variant, how much slower the host ran than when it was measured, as the server's
            own scheduler saw it; a simulator does not know of neighbours.
    """
    with _environment("SCANFLOW_CACHE", str(cache)):
        found = simulation.subject(policy, None, None, None, None)
    slower = tuple(_slower(each, ratio.get(each.variant, 1.0)) for each in found.setting.options)
    return replace(found, setting=replace(found.setting, options=slower))


def foretold(
    subject: simulation.Subject, schedule: Schedule, trace: str, load: float, repeat: int
) -> Foretold:
    """Return what the simulator says of *schedule*."""
    arrivals = [Arrival(float(at)) for at in schedule.at_s]
    found = simulation.simulate(subject, arrivals, trace=trace, seed=repeat, compare=False)
    (run,) = found.runs
    best = optimum(arrivals, subject.setting, subject.machine.overhead_ms)
    return Foretold(trace, load, repeat, run.result.misses, run.result.effective_accuracy, best)


def _slower(option: Option, ratio: float) -> Option:
    curve = option.curve
    latency = {
        rows: Latency(curve.p50_ms(rows) * ratio, curve.p95_ms(rows) * ratio, 0)
        for rows in range(1, curve.max_batch + 1)
    }
    return replace(option, curve=Curve(latency, curve.max_batch))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
