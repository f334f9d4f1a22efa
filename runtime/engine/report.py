"""What the engine tells of itself: for people as JSON, for metrics as numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanflow_serve.runtime.engine.answerers import Answerer
from scanflow_serve.runtime.engine.dispatch import Dispatcher
from scanflow_serve.runtime.engine.fleet import Fleet
from scanflow_serve.runtime.engine.steering import Steering
from scanflow_serve.runtime.events import iso_time
from scanflow_serve.runtime.scheduler.jobs import Decision, Option
from scanflow_serve.runtime.scheduler.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class OptionCounters:
    """One option of a lane at present.

    Attributes:
        ratio: Measured over profiled latency.
        in_rotation: It may answer; else it failed, and pauses.
        failures: Calls of the variant that failed, in all lanes.
        memory_mb: As measured when it was calibrated.
    """

    lane: str
    variant: str
    ratio: float
    in_rotation: bool
    memory_mb: float
    failures: int


@dataclass(frozen=True, slots=True)
class Counters:
    """The engine's figures at one moment.

    Attributes:
        queued: Requests that wait for a core.
        running: Batches that run.
        waiting: Requests that are being answered, the queued among them.
        switches: How often another option than before took a batch, by lane and reason.
        memory_mb: Of all that is loaded.
        budget_mb: That it may take.
    """

    queued: int
    running: int
    waiting: int
    switches: Mapping[tuple[str, str], int]
    options: tuple[OptionCounters, ...]
    memory_mb: float
    budget_mb: float


def wall_time(at: float) -> str:
    """Return the wall-clock time of *at*, a time by `time.perf_counter`, as RFC 3339."""
    return iso_time(time.time() - (time.perf_counter() - at))


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return a decision with its wall-clock time."""
    return {"time": wall_time(decision.at)} | decision.to_json()


def counters(scheduler: Scheduler, fleet: Fleet, dispatch: Dispatcher) -> Counters:
    """Return the figures of this moment."""
    failures = dispatch.failures
    return Counters(
        queued=scheduler.queued,
        running=scheduler.running,
        waiting=dispatch.waiting,
        switches=dict[tuple[str, str], int](scheduler.journal.switches.items()),
        options=tuple(
            OptionCounters(
                lane=lane,
                variant=option.variant,
                ratio=scheduler.health(option.variant).ratio,
                in_rotation=scheduler.health(option.variant).closed,
                memory_mb=fleet.memory_mb(fleet.now.by_option[option].candidate.variants),
                failures=failures[option.variant].count if option.variant in failures else 0,
            )
            for lane, found in fleet.now.options.items()
            for option in found
        ),
        memory_mb=fleet.loaded_mb(),
        budget_mb=fleet.budget_mb,
    )


def state_json(
    scheduler: Scheduler, fleet: Fleet, steering: Steering, waiting: int, upkeep_ms: float | None
) -> dict[str, Any]:
    """Return what runs now and what was decided lately, as ``GET /plan`` shows it."""
    return {
        "pinned": steering.pinned,
        "rules": {
            "acting": [f"adapt[{index}]" for index in steering.acting],
            "prefer": steering.asked.prefer,
            "use": steering.asked.use,
        },
        "queue": {
            "queued": scheduler.queued,
            "running": scheduler.running,
            "in_flight": waiting,
            "max_queue": scheduler.max_queue,
        },
        "traffic_rps": scheduler.traffic.slow,
        "upkeep_ms": upkeep_ms,
        "memory": {"loaded_mb": fleet.loaded_mb(), "budget_mb": fleet.budget_mb},
        "lanes": [_lane_json(name, scheduler, fleet) for name in fleet.now.options],
        "decisions": [decision_json(each) for each in scheduler.journal.decisions],
    }


def _lane_json(name: str, scheduler: Scheduler, fleet: Fleet) -> dict[str, Any]:
    lane, now = scheduler.lane(name), fleet.now
    main = lane.main(scheduler.goal)
    mix = lane.mix(scheduler.goal)
    order = lane.order(scheduler.goal)
    return {
        "lane": name,
        "names": [served.name for served in now.names.values() if served.lane == name],
        "current": None if main is None else main.option.variant,
        "rows_per_s": lane.rate.cautious,
        "mix": mix
        and {
            "upper": order[mix.upper].option.variant,
            "lower": order[mix.lower].option.variant,
            "share": mix.share,
            "load": mix.load,
        },
        "options": [
            _option_json(option, scheduler, now.by_option[option], fleet)
            for option in now.options[name]
        ],
    }


def _option_json(
    option: Option, scheduler: Scheduler, answerer: Answerer, fleet: Fleet
) -> dict[str, Any]:
    health = scheduler.health(option.variant)
    held = next((h.why for h in fleet.now.held if h.candidate == answerer.candidate), None)
    return {
        "id": option.id,
        "variant": option.variant,
        "accuracy": option.accuracy,
        "loaded_as": held,
        "in_rotation": health.closed,
        "ratio": health.ratio,
        "last_used": wall_time(answerer.used) if answerer.used else None,
        "memory_mb": fleet.memory_mb(answerer.candidate.variants),
    }
