"""What keeps one check's failure its own: errors, hangs and growth end that check alone.

A check runs on a thread beside the host's. One that does not come back in time is left there, for
Python can't stop a thread, and its successor works on. A check that holds the interpreter's lock
in native code can't be isolated inside a process; it would stop everything, as any library may.
"""

from __future__ import annotations

import gc
import queue
import sys
import threading
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

LIMIT_S = 10.0  # of one call, on a busy edge device
FIT_LIMIT_S = 600.0
MOST_BYTES = 32 * 1024 * 1024  # what one check may keep; goal G6 is 2 MB a model
SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType)  # not a check's own


class HangError(Exception):
    """A call did not come back in time; its thread is left behind."""


class GrowthError(Exception):
    """A check keeps more than it may."""


class Bench:
    """A thread on which calls are made, one after another; replaced when one hangs.

    Attributes:
        abandoned: Threads that were left behind.
    """

    def __init__(self, name: str = "check") -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None] | None = None
        self.abandoned = 0

    def call(self, function: Callable[..., T], *arguments: Any, limit_s: float = LIMIT_S) -> T:
        """Return what *function* returns.

        Raises:
            HangError: It took longer than *limit_s*.
            Exception: Whatever it raised.
        """
        job = _Job(function, arguments)
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            # A daemon: a check that hangs must not keep the process from ending.
            threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True).start()
        self._jobs.put(job)
        if not job.done.wait(limit_s):
            self._jobs.put(None)  # should it ever come back, it ends
            self._jobs = None
            self.abandoned += 1
            raise HangError(f"took longer than {limit_s:g} s")
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def close(self) -> None:
        """Let the thread end."""
        if self._jobs is not None:
            self._jobs.put(None)
            self._jobs = None


class _Job:
    __slots__ = ("arguments", "done", "error", "function", "result")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


def _work(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        try:
            job.result = job.function(*job.arguments)
        except BaseException as error:  # SystemExit too: it ends the check, not the server
            job.error = error
        job.done.set()


def kept_bytes(thing: object, most: int = MOST_BYTES) -> int:
    """Return how many bytes *thing* keeps alive, counted until they exceed *most*.

    Modules, classes and functions are not its own. What native code hides is not seen.
    """
    seen: set[int] = set()
    waiting: list[object] = [thing]
    total = 0
    while waiting and total <= most:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, SHARED):
            continue
        seen.add(id(each))
        total += each.nbytes if isinstance(each, np.ndarray) else sys.getsizeof(each)
        waiting.extend(gc.get_referents(each))
    return total


def require_bounded(thing: object, most: int = MOST_BYTES) -> None:
    """Check that *thing* keeps at most *most* bytes.

    Raises:
        GrowthError: It keeps more.
    """
    if kept_bytes(thing, most) > most:
        raise GrowthError(f"keeps more than {most / 2**20:g} MiB")
