"""What a request is told that can't be answered in time, or at all."""

from __future__ import annotations

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler.jobs import Job

LEAST_RETRY_S = 1.0  # Retry-After counts whole seconds


def full(max_queue: int, wait_ms: float) -> RequestError:
    """Return the refusal of a request that finds the queue full."""
    return RequestError(
        503,
        f"The queue is full: scheduling.max_queue is {max_queue}. Retry later.",
        retry_after_s=_retry_s(wait_ms),
    )


def late(job: Job, wait_ms: float, least_ms: float, now: float) -> RequestError:
    """Return the refusal of a request that can't meet its deadline.

    Args:
        wait_ms: Until it could start.
        least_ms: p95 of the fastest variant for its rows.
    """
    left_ms = max(0.0, (job.due - now) * 1000)
    return RequestError(
        504,
        f"The deadline can't be met: {wait_ms:.3g} ms of queue and {least_ms:.3g} ms (p95) of "
        f"inference on the fastest variant exceed the {left_ms:.4g} ms that are left. Send a "
        "larger Scanflow-Deadline-Ms, send fewer rows, or retry later.",
        retry_after_s=_retry_s(wait_ms),
    )


def gave_way(wait_ms: float) -> RequestError:
    """Return the refusal of a waiting request of the client that has the most of them."""
    return RequestError(
        503,
        "The server is busy, and this client has more requests waiting than others, who come "
        "first. Send fewer at a time, or retry later.",
        retry_after_s=_retry_s(wait_ms),
    )


def unloaded(name: str) -> RequestError:
    """Return the refusal of a waiting request whose model was unloaded."""
    return RequestError(
        503, f"{name!r} was unloaded while the request waited. Load it again, or use another name."
    )


def _retry_s(wait_ms: float) -> float:
    return max(LEAST_RETRY_S, wait_ms / 1000)
