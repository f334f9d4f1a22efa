"""The worker as its parent sees it: a pid that survives the parent's `exec`, and two pipes."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

from scanflow_serve.serving.launch import Launch

WORKER = [sys.executable, "-m", "scanflow_serve.serving.worker"]


class Child:
    """One worker process.

    Attributes:
        ready_fd: Read end; the worker writes a byte when it accepts connections.
    """

    def __init__(self, pid: int, ready_fd: int, go_fd: int | None = None) -> None:
        self.pid = pid
        self.ready_fd = ready_fd
        self._go_fd = go_fd
        self._ended = False

    @classmethod
    def spawn(cls, start: Launch, environment: dict[str, str], *, waits: bool = False) -> Child:
        """Return a new worker.

        Args:
            waits: It imports what it needs, then waits for `go` before it loads the plan.
        """
        ready_fd, told = os.pipe()
        go, go_fd = os.pipe() if waits else (-1, -1)
        passed = [fd for fd in (start.fd, told, go) if fd >= 0]
        for fd in passed:  # all others of ours are closed by the exec
            os.set_inheritable(fd, True)
        # A process group of its own: Ctrl+C reaches us alone, and the worker through us.
        arguments = [*WORKER, start.dump(), str(os.getpid()), str(go), str(told)]
        pid = os.posix_spawn(arguments[0], arguments, environment, setpgroup=0)
        for fd in passed:
            os.set_inheritable(fd, False)
            if fd != start.fd:
                os.close(fd)
        return cls(pid, ready_fd, go_fd if waits else None)

    def go(self) -> None:
        """Let a worker that waits load the plan."""
        if self._go_fd is not None:
            with suppress(BrokenPipeError):  # it died; whoever waits for it will see
                os.write(self._go_fd, b"1")
            os.close(self._go_fd)
            self._go_fd = None

    def ready(self) -> bool:
        """Wait until the worker accepts connections, or has died, and return which."""
        said = os.read(self.ready_fd, 1)
        os.close(self.ready_fd)
        return said == b"1"

    def wait(self) -> int:
        """Return the exit code once the worker has ended; -N for a signal, as `subprocess`."""
        _, status = os.waitpid(self.pid, 0)
        self._ended = True
        return os.waitstatus_to_exitcode(status)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the worker has ended."""
        if not self._ended:
            os.kill(self.pid, number)
