"""No process outlives its parent: asked of the kernel, and watched where the kernel can't."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

# A parent that starts a child, prints the child's pid, and waits to be killed.
PARENT = """
import subprocess, sys, os
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())],
                         stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
KERNEL = """
import sys, time
from scanflow_serve.serving.lifetime import end_with_parent
end_with_parent(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""
WATCH = """
import sys, time
from scanflow_serve.serving import lifetime
lifetime._ask_kernel = lambda: False
lifetime.end_with_parent(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("child", [KERNEL, WATCH], ids=["kernel", "watch"])
def test_child_ends_when_its_parent_is_killed(child: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        process = psutil.Process(pid)
        os.kill(parent.pid, signal.SIGKILL)
    assert gone(process)


def test_child_of_a_parent_that_died_already_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KERNEL, "1"], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stdout == b""


def gone(process: psutil.Process, limit_s: float = 10.0) -> bool:
    """Return whether *process* ended; one whose new parent has not reaped it has."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False
