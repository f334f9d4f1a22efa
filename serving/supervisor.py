"""Keeps one worker alive: starts it, restarts it when it crashes, stops it gracefully.

Context: BentoML's own arbiter (circus) imports the whole of BentoML a second time, on the critical
path of every start. Options: `Service.serve_http`, `bentoml serve` as a child, or this module,
which holds the listening socket and nothing else. Outcome, quickstart on 2 vCPU: circus 71 MB
and 0.7 s until the worker is even started, this 14 MB and 0.03 s. Price: `bentoml serve`
(which still works) and `scanflow-serve run` start the same service by two ways.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType

from scanflow_serve.serving.launch import Launch

WORKER = [sys.executable, "-m", "scanflow_serve.serving.worker"]
QUICK_DEATHS = 5  # in a row, without having been ready: give up
LONGEST_PAUSE_S = 5.0
EXTRA_S = 5.0  # after the grace, before SIGKILL: closing sessions takes a moment


class Supervisor:
    """The parent of one worker at a time."""

    def __init__(self, start: Launch) -> None:
        self.start = start
        self.worker: subprocess.Popen[bytes] | None = None
        self.stopping_since: float | None = None
        self.deaths = 0

    def run(self) -> int:
        """Serve until told to stop; return the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        served_before = False
        while self.stopping_since is None:
            code, ready = self._serve()
            if self.stopping_since is not None:
                return 0 if code == 0 or code == -signal.SIGTERM else 1
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
        said, told = os.pipe()
        worker = subprocess.Popen(
            [*WORKER, self.start.dump(), str(os.getpid()), str(told)],
            pass_fds=(self.start.fd, told),
            process_group=0,  # so that Ctrl+C reaches us alone, and the worker through us
        )
        self.worker = worker
        os.close(told)
        if self.stopping_since is not None:  # told to stop while it was being started
            worker.terminate()
        ready = os.read(said, 1) == b"1"  # b"" when it died
        os.close(said)
        return worker.wait(), ready

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Pass the first signal on; a second one does not wait."""
        impatient = self.stopping_since is not None
        self.stopping_since = self.stopping_since or time.monotonic()
        if self.worker is not None:
            self.worker.send_signal(signal.SIGKILL if impatient else signal.SIGTERM)
        signal.setitimer(signal.ITIMER_REAL, self.start.grace_s + EXTRA_S)

    def _kill(self, number: int, frame: FrameType | None) -> None:
        """End a worker that outstayed its grace."""
        if self.worker is not None:
            self.worker.kill()

    def _pause(self, seconds: float) -> None:
        """Sleep, but not through a signal."""
        until = time.monotonic() + seconds
        while self.stopping_since is None and time.monotonic() < until:
            time.sleep(0.05)


def _say(text: str) -> None:
    print(f"scanflow-serve: {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Supervise the worker of the launch given as the first argument."""
    sys.exit(Supervisor(Launch.parse(sys.argv[1])).run())


if __name__ == "__main__":
    main()
