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


@dataclass(frozen=True, slots=True)
class Seen:
    """How the host did in one live run.

    Attributes:
        ratio: By variant, how much slower calls ran than when they were measured, as the server's
            own scheduler saw it, on average; a simulator does not know of neighbours. What the
            generator takes from the cores is in it.
        overhead_ms: Processor time of a request beside inference, as the server's event loop
            measured itself.
    """

    ratio: Mapping[str, float]
    overhead_ms: float


def subject(policy: Path, cache: Path, seen: Seen) -> simulation.Subject:
    """Return what is to be simulated: the plan by which *policy* was served.

    Args:
        cache: `SCANFLOW_CACHE` of the server.
    """
    with _environment("SCANFLOW_CACHE", str(cache)):
        found = simulation.subject(policy, None, None, None, seen.overhead_ms)
    options = found.setting.options
    slower = tuple(_slower(each, seen.ratio.get(each.variant, 1.0)) for each in options)
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
    ratio /= curve.contention  # which the curve has in it already
    latency = {
        rows: Latency(curve.p50_ms(rows) * ratio, curve.p95_ms(rows) * ratio, 0)
        for rows in range(1, curve.max_batch + 1)
    }
    return replace(option, curve=Curve(latency, curve.max_batch, curve.contention))


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
