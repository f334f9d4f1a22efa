"""What is tried when a call failed: another option once, then each job by itself, once."""

from __future__ import annotations

from collections.abc import Sequence

from scanflow_serve.runtime.scheduler.jobs import Batch, Job
from scanflow_serve.runtime.scheduler.lane import Runner

ALONE = 3  # the attempt at which each job of a batch is tried by itself


def retries(
    batch: Batch, own: Runner, others: Sequence[Runner], now: float, why: str
) -> list[Batch]:
    """Return what is to be tried instead of *batch*; nothing if its jobs have failed.

    If a second option fails on the same rows, one of the jobs may be to blame.

    Args:
        own: What failed.
        others: What else may answer, in rotation.
        why: What it said.
    """
    if batch.attempt == 1 and others:
        runner = min(others, key=lambda runner: runner.p95_ms(batch.rows))
        again = _attempt(batch, runner, batch.jobs, now, attempt=2)
        again.failed, again.why = batch.option, why
        return [again]
    if batch.attempt < ALONE and len(batch.jobs) > 1:
        return [_attempt(batch, own, [job], now, attempt=ALONE) for job in batch.jobs]
    return []


def _attempt(batch: Batch, runner: Runner, jobs: list[Job], now: float, attempt: int) -> Batch:
    rows = sum(job.rows for job in jobs)
    expected_ms = runner.p50_ms(rows)
    return Batch(batch.lane, runner.option, jobs, rows, now, expected_ms, attempt=attempt)
