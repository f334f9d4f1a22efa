"""Many runs side by side: a process a core, one thread each, results in the order of the jobs."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

Job = TypeVar("Job")
Found = TypeVar("Found")


class Workers:
    """Processes that share work.

    Args:
        processes: 1: everything runs in this one.
    """

    def __init__(self, processes: int = 1) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if processes > 1:
            context = multiprocessing.get_context("spawn")  # a fork copies held locks
            self._pool = ProcessPoolExecutor(processes, context, initializer=_one_thread)

    def map(self, work: Callable[[Job], Found], jobs: Iterable[Job]) -> list[Found]:
        """Return what *work*, a function of a module, returns for each of *jobs*."""
        if self._pool is None:
            with threadpool_limits(1):
                return [work(job) for job in jobs]
        return list(self._pool.map(work, jobs))

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown()


def _one_thread() -> None:
    import numpy as np

    np.linalg.norm(np.eye(2))  # what is not loaded yet can't be limited
    threadpool_limits(1)
