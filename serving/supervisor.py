"""Keeps one worker alive: starts it, restarts it when it crashes, stops it gracefully.

Context: BentoML's own arbiter (circus) imports the whole of BentoML a second time, on the critical
path of every start. Options: `Service.serve_http`, `bentoml serve` as a child, or this module,
which holds the listening socket and nothing else. Outcome, on 2 vCPU: circus 71 MB and 0.7 s
until the worker is even started, this 15 MB and 0.03 s. Price: `bentoml serve` (which still
works) and `scanflow-serve run` start the same service by two ways.

Run as ``python -m scanflow_serve.serving.supervisor LAUNCH [PID READY_FD]``; the latter two are a
worker that was started earlier by this process, before its `exec`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

from scanflow_serve.serving.child import Child
from scanflow_serve.serving.launch import Launch

QUICK_DEATHS = 5  # in a row, without having been ready: give up
LONGEST_PAUSE_S = 5.0
EXTRA_S = 5.0  # after the grace, before SIGKILL: closing sessions takes a moment


class Supervisor:
    """The parent of one worker at a time."""

    def __init__(self, start: Launch, first: Child | None = None) -> None:
        self.start = start
        self.worker = first
        self.stopping = False
        self.deaths = 0

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        served_before = False
        while not self.stopping:
            code, ready = self._serve()
            if self.stopping:
                return 0 if code in (0, -signal.SIGTERM) else 1
            served_before |= ready
            self.deaths = 0 if ready else self.deaths + 1
            if not served_before or self.deaths >= QUICK_DEATHS:
                _say(f"the worker ended with {code} before it was ready; giving up.")
                return 1
            pause_s = min(LONGEST_PAUSE_S, 0.1 * 2**self.deaths)
            _say(f"the worker died ({code}); starting another in {pause_s:g} s.")
            self._pause(pause_s)
        return 0

    def _serve(self) -> tuple[int, bool]:
        """Run one worker until it ends; return its exit code and whether it had been ready."""
        worker = self.worker or Child.spawn(self.start, dict(os.environ))
        self.worker = worker
        if self.stopping:  # told to stop while it was being started
            worker.send(signal.SIGTERM)
        ready = worker.ready()
        code = worker.wait()
        self.worker = None
        return code, ready

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Pass the first signal on; a second one does not wait."""
        impatient, self.stopping = self.stopping, True
        if self.worker is not None:
            self.worker.send(signal.SIGKILL if impatient else signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, self.start.grace_s + EXTRA_S)

    def _kill(self, number: int, frame: FrameType | None) -> None:
        """End a worker that outstayed its grace."""
        if self.worker is not None:
            self.worker.send(signal.SIGKILL)

    def _pause(self, seconds: float) -> None:
        """Sleep, but not through a signal."""
        until = time.monotonic() + seconds
        while not self.stopping and time.monotonic() < until:
            time.sleep(0.05)


def _say(text: str) -> None:
    print(f"scanflow-serve: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Supervise the worker of the launch given as the first argument."""
    start = Launch.parse(sys.argv[1])
    os.set_inheritable(start.lock_fd, False)  # it had to survive our exec; it is ours alone
    first = Child(int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 2 else None
    if first is not None:
        os.set_inheritable(first.ready_fd, False)
    sys.exit(Supervisor(start, first).run())


if __name__ == "__main__":
    main()
