"""What checks cost a running server: requests/s, memory, libraries, and what kill -9 loses."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from check_policies import CACHE, PROGRAM, Pair, bodies
from load import Body, burst
from processes import Running, free_port, running
from switching import prefer

CONNECTIONS = (1, 16)
INFER = "/v2/models/bench/infer"
LIMIT_S = 180.0
OUTLIVES_S = 2.0  # that the load goes on after a server is killed
STEADY = 200.0  # requests/s of the calm server that is killed
FORBIDDEN = ("torch", "scipy", "sklearn", "river", "pandas", "mlflow", "tensorflow", "numba")
IMPORTED = re.compile(r"^import time:\s*\d+ \|\s*\d+ \| +([\w.]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """One burst on a server without checks, and one on a server with them, one after the other.

    Attributes:
        off: Requests/s.
        on: Requests/s.
        off_cpu_us: Processor time a request, of all the server's processes.
    """

    model: str
    connections: int
    off: float
    on: float
    off_cpu_us: float
    on_cpu_us: float

    @property
    def lost(self) -> float:
        """Return the share of requests/s that checks cost."""
        return 1 - self.on / self.off


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a server after the load, in MiB, all processes, shared pages once."""

    model: str
    off_mb: float
    on_mb: float


@dataclass(frozen=True, slots=True)
class Lost:
    """What a kill -9 lost.

    Attributes:
        load: Under which it was killed.
        seen: Rows that the checks had looked at.
        kept: Of these, known after the restart.
    """

    load: str
    seen: int
    kept: int


@contextmanager
def serving(policy: Path, state: Path, **environ: str) -> Iterator[Running]:
    """Run ``scanflow-serve run`` of this environment until the block ends."""
    port = free_port()
    state.mkdir(parents=True, exist_ok=True)
    with running(
        [PROGRAM, "run", policy, "--port", str(port), "--state", state],
        port=port,
        ready="/readyz",
        log=state / "log",
        cwd=policy.parent,
        environ=CACHE | environ,
    ) as server:
        yield server


def loads(
    pair: Pair, rounds: int, seconds: float, folder: Path, nice: int = 0
) -> tuple[list[Load], Memory]:
    """Return bursts on both of a model's servers in turn, and what memory they take after them.

    Args:
        nice: Niceness of servers and load, where it is not 0.
    """
    asked, found = bodies(), []
    with ExitStack() as stack:
        off = stack.enter_context(serving(pair.off, folder / "off"))
        on = stack.enter_context(serving(pair.on, folder / "on"))
        armed(on)
        if nice:
            here = psutil.Process()
            prefer([here, *off.tree(), *on.tree()], nice)  # here: the load's too
            stack.callback(prefer, [here], 0)
        for server in (off, on):  # first calls are slow
            burst(server.url + INFER, asked, connections=4, seconds=1)
        for number in range(rounds):
            for connections in CONNECTIONS:
                order = (off, on) if number % 2 else (on, off)
                by = {each.url: _burst(each, asked, connections, seconds) for each in order}
                (rps, cpu), (with_rps, with_cpu) = by[off.url], by[on.url]
                found.append(Load(pair.name, connections, rps, with_rps, cpu, with_cpu))
        return found, Memory(pair.name, off.memory_mb(), on.memory_mb())


def _burst(
    server: Running, asked: Sequence[Body], connections: int, seconds: float
) -> tuple[float, float]:
    before = server.cpu_s()
    figures = burst(server.url + INFER, asked, connections=connections, seconds=seconds)
    cpu_us = (server.cpu_s() - before) * 1e6 / figures.requests
    if figures.failures:
        raise RuntimeError(f"{server.url}: {figures.failures} of {figures.requests} failed.")
    return figures.rps, cpu_us


def median_lost(found: Sequence[Load], model: str, connections: int) -> float:
    """Return the median share of requests/s lost, over pairs of bursts."""
    mine = [each for each in found if (each.model, each.connections) == (model, connections)]
    return statistics.median(each.lost for each in mine)


def armed(server: Running) -> None:
    """Wait until every check of *server* watches.

    Raises:
        RuntimeError: One does not in `LIMIT_S`.
    """
    _until(lambda: {each["phase"] for each in _checks(server)["checks"]} == {"armed"}, "armed")


def libraries(pair: Pair, folder: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Return all top-level modules that a server with checks imports, and what it must not.

    The interpreter itself lists them, in every process: ``PYTHONPROFILEIMPORTTIME``.
    """
    with serving(pair.on, folder / "libraries", PYTHONPROFILEIMPORTTIME="1") as server:
        armed(server)
        burst(server.url + INFER, bodies(), connections=2, seconds=2)
    log = (folder / "libraries/log").read_text(errors="replace")
    found = frozenset(name.partition(".")[0] for name in IMPORTED.findall(log))
    if "scanflow_serve" not in found:
        raise RuntimeError("the log must list the imports of the server, got none of ours")
    return found, found & set(FORBIDDEN)


def killed(pair: Pair, folder: Path, requests: int, seconds: float) -> list[Lost]:
    """Return what kill -9 lost of a calm server, and of one under all the load that it takes."""
    calm = _killed(pair, folder / "calm", lambda server: _steady(server, requests))
    full = _killed(pair, folder / "full", lambda server: _full(server, seconds))
    return [Lost(f"{STEADY:g} requests/s", *calm), Lost("full, 16 connections", *full)]


def _killed(pair: Pair, state: Path, load: Callable[[Running], int]) -> tuple[int, int]:
    with serving(pair.on, state) as server:
        armed(server)
        seen = load(server)
        for process in reversed(server.tree()):
            os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(server.process.pid)], timeout=10)
    with serving(pair.on, state) as server:
        armed(server)
        return seen, _rows(server)


def _steady(server: Running, requests: int) -> int:
    begun = time.perf_counter()
    for number, body in zip(range(requests), bodies() * (requests // 100 + 1), strict=False):
        time.sleep(max(0.0, begun + number / STEADY - time.perf_counter()))
        request = urllib.request.Request(server.url + INFER, body.content, dict(body.headers))
        urllib.request.urlopen(request, timeout=30).read()
    _until(lambda: _rows(server) == requests, "shown all rows")
    return requests


def _full(server: Running, seconds: float) -> int:
    """Load *server* from another thread; return what it had seen at the last look, under load."""
    from concurrent.futures import ThreadPoolExecutor

    asked = bodies()
    with ThreadPoolExecutor(1) as pool:
        under = pool.submit(
            burst, server.url + INFER, asked, connections=16, seconds=seconds + OUTLIVES_S
        )
        end, seen = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            seen = _rows(server)
        for process in reversed(server.tree()):
            os.kill(process.pid, signal.SIGKILL)
        del under
    return seen


def _rows(server: Running) -> int:
    """Return how many rows the check that has seen fewest knows of; inline ones keep no state."""
    counts = [each["rows"] for each in _checks(server)["checks"] if each["type"] != "integrity"]
    return min(counts)


def _checks(server: Running) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.url}/checks", timeout=30) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def _until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(f"checks must be {what} within {LIMIT_S:g} s, and are not")
        time.sleep(0.05)
