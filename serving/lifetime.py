"""A worker's life: it ends with its parent's, however the parent dies, and hears that it ends.

Linux kills the worker itself (`prctl(PR_SET_PDEATHSIG)`). Elsewhere, and in case that call is
forbidden, a thread watches the parent's pid.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
WATCH_INTERVAL_S = 0.25


def end_with_parent(parent: int) -> None:
    """Make this process die with the process *parent*; return once that is certain.

    To be called on the main thread. The signal is SIGKILL: a parent that is gone can't wait for
    requests in flight, and whoever replaces it needs the port and the state folder now.
    """
    if not _ask_kernel():
        watch(parent)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)


def watch(parent: int) -> threading.Thread:
    """Start and return a thread that ends this process once its parent is not *parent*."""

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_INTERVAL_S)
        os._exit(1)

    thread = threading.Thread(target=wait, name="parent-watch", daemon=True)
    thread.start()
    return thread


def _ask_kernel() -> bool:
    """Return whether the kernel will kill this process when its parent dies."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0)


def on_end_signal(told: Callable[[], None]) -> Callable[[], None]:
    """Call *told* in the running event loop when SIGTERM or SIGINT comes; return what ends that.

    Whoever handles the signal now handles it still. Off the main thread nothing is watched: there
    Python hands out no signals.
    """
    loop = asyncio.get_running_loop()
    before: dict[signal.Signals, Any] = {}

    def pass_on(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(told)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        elif handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def end() -> None:
        for number, handler in before.items():
            if signal.getsignal(number) is pass_on:
                signal.signal(number, handler)

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.getsignal(number)
            signal.signal(number, pass_on)
    return end
