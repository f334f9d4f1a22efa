"""Families of variants to simulate with: slower ones are more accurate."""

from __future__ import annotations

from typing import Any

from scanflow_serve.runtime.measurements import Latency
from scanflow_serve.runtime.scheduler.curve import Curve
from scanflow_serve.runtime.scheduler.jobs import Option
from scanflow_serve.runtime.scheduler.tuning import Tuning
from scanflow_serve.runtime.simulation.baselines import Setting

MAX_BATCH = 32


def option(
    name: str,
    call_ms: float,
    row_ms: float,
    accuracy: float | None = None,
    *,
    threads: int = 1,
    spread: float = 1.2,
    contention: float = 1.0,
) -> Option:
    """Return an option with calls of *call_ms* and *row_ms* a row, p95 *spread* times that.

    Args:
        contention: Factor on both while all cores are busy.
    """
    curve = Curve(
        {
            rows: Latency(call_ms + row_ms * rows, (call_ms + row_ms * rows) * spread, 50)
            for rows in (1, 2, 4, 8, 16, 32)
        },
        MAX_BATCH,
        contention,
    )
    worth = -row_ms if accuracy is None else accuracy
    return Option(
        id=f"classify:{name}",
        variant=name,
        models=(name,),
        curve=curve,
        threads=threads,
        accuracy=accuracy,
        worth={"objective": worth, "accuracy": worth, "latency": -row_ms, "balanced": -row_ms},
    )


SLOW = option("slow", 3.0, 16.0, 0.99)
MIDDLE = option("middle", 2.0, 4.0, 0.96)
FAST = option("fast", 1.0, 1.5, 0.92)
FAMILY = (SLOW, MIDDLE, FAST)


def setting(options: tuple[Option, ...] = FAMILY, **fields: Any) -> Setting:
    """Return a server of two cores with a deadline of 100 ms, unless *fields* say otherwise."""
    usual: dict[str, Any] = {
        "lane": "digits",
        "cores": 2,
        "max_queue": 256,
        "max_batch": MAX_BATCH,
        "deadline_s": 0.1,
        "tuning": Tuning(),
    }
    return Setting(options=options, **(usual | fields))
