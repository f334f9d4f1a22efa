"""A worker's life ends with its parent's, however the parent dies.

Linux kills the worker itself (`prctl(PR_SET_PDEATHSIG)`). Elsewhere, and in case that call is
forbidden, a thread watches the parent's pid.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

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
