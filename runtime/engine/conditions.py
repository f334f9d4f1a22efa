"""What run-time conditions see: host, traffic, latency and model, as they are now."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from scanflow_serve.runtime.engine.answerers import Answerer
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.power import read_power
from scanflow_serve.runtime.host.thermal import read_thermal
from scanflow_serve.runtime.host.tree import Tree
from scanflow_serve.runtime.scheduler.scheduler import Scheduler

# Nothing watches, or nobody has labelled anything yet: what is not known makes no rule act.
UNCHECKED = {"state": "off", "phase": "collecting", "score": None, "p_val": None}
UNLABELLED = {"labels": 0.0, "unmatched": 0.0, "accuracy": None}


def live_host(host: HostProfile, root: str = "/") -> dict[str, Any]:
    """Return the variable ``host``: throttling and battery as they are now, the rest as planned.

    Args:
        root: As `profile_host` takes it.
    """
    tree = Tree(root)
    changing = {
        "throttled": read_thermal(tree).throttled,
        "on_battery": read_power(tree).on_battery,
    }
    return host.variables() | changing


def unwatched(names: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """Return what is known of checks that nobody runs, by name."""
    return dict.fromkeys(names, UNCHECKED)


def values(
    scheduler: Scheduler,
    now: float,
    *,
    waiting: int,
    answerer: Answerer | None,
    checks: Mapping[str, Mapping[str, Any]],
) -> dict[str, Mapping[str, Any]]:
    """Return the variables of `policies.vocabulary.ADAPT_VARIABLES`, but for ``host``.

    Args:
        waiting: Requests that are being answered, those in the queue among them.
        answerer: What most requests of the policy's name get; None where nothing answers.
        checks: What is known of each check, by name.
    """
    p50_ms, p95_ms, p99_ms = scheduler.latency.percentiles(now, (50, 95, 99))
    return {
        "traffic": {
            "rate_rps": scheduler.traffic.slow,
            "queue": float(scheduler.queued),
            "in_flight": float(waiting),
        },
        "latency": {"p50_ms": p50_ms, "p95_ms": p95_ms, "p99_ms": p99_ms},
        "checks": checks,
        "feedback": UNLABELLED,
        "model": {
            "name": answerer.model if answerer else None,
            "version": answerer.version if answerer else None,
            "variant": answerer.variant if answerer else None,
        },
    }
