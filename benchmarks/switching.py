"""What choosing a variant under load gains: live, open loop, against every fixed choice.

    python benchmarks/switching.py [--quick] [--update README.md]

All servers are up; each gets the same requests at the same instants, in interleaved rounds
(A B C … A B C …), so that a noisy neighbour disturbs all alike. Method: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import contenders
import family
import foretold
import pins
import psutil
import rivals
from contenders import BUILD, ROOT, served
from load import Body, burst, generator
from openloop import Fleet, fleet
from page import machine, update
from processes import Running
from rivals import FAMILY, LIMIT_MS, Rival
from switching_cells import CELLS, LOADS, Cell, Record, record, schedule
from switching_tables import OURS, Results, table

PROCESSES = 2
GRACE_S = 1.0  # after the last request; what comes later would have missed anyway
WATCH_S = 0.5  # between looks at how our scheduler sees the host
SETTLE_S, IDLE = 20.0, 0.1  # at most; of a core, below which a server is idle
CONNECTIONS = 8  # in the measurement of the capacity
STATICS = tuple(f"static-{member.name}" for member in family.MEMBERS)
CHOICES: dict[str, Callable[[], Rival]] = {
    OURS: rivals.ours,
    **{f"static-{m.name}": (lambda name=m.name: rivals.static(name)) for m in family.MEMBERS},
    "bentoml": rivals.bentoml,
    "mlserver": rivals.mlserver,
}
QUICK = (Cell("poisson", 0.3), Cell("poisson", 1.2), Cell("poisson", 5.0), Cell("spike", 0.8))


@dataclass(frozen=True, slots=True)
class Run:
    """How much is measured."""

    cells: Sequence[Cell]
    repeats: int
    seconds: float
    pins: int
    nice: int


def ask(server: Running, path: str, body: bytes | None = None) -> Any:
    """Return the JSON answer to one request; any status but 200 raises."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(server.url + path, body, headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read())


def capacity(rival: Rival, server: Running, seconds: float) -> float:
    """Return the requests per second that *rival* answers when asked without a pause."""
    body = Body(rival.bodies[0], {"Content-Type": "application/json"})
    url = server.url + rival.contender.infer
    runs = [burst(url, body, connections=CONNECTIONS, seconds=seconds) for _ in range(3)]
    return statistics.median(run.rps for run in runs)


def compared(
    run: Run,
    chosen: Sequence[Rival],
    servers: Mapping[str, Running],
    senders: Fleet,
    capacity_rps: float,
) -> tuple[list[Record], dict[Cell, list[foretold.Seen]]]:
    """Return what came of all cells, and by cell how our scheduler saw the host."""
    accuracy, classes = family.accuracies(FAMILY), family.judged().classes
    found: list[Record] = []
    seen: dict[Cell, list[foretold.Seen]] = {cell: [] for cell in run.cells}
    for repeat in range(run.repeats):
        for cell in run.cells:
            sent = schedule(cell, capacity_rps, run.seconds, repeat, len(classes))
            for rival in chosen:
                server = servers[rival.key]
                target = rival.target(server.url)
                with watched(server) as told:
                    outcomes = senders.send(target, sent, grace_s=GRACE_S)
                if rival.key == OURS:
                    seen[cell].append(_seen(told))
                settle(server)
                truth = classes[sent.body]
                key = next(key for key in CHOICES if rival.key.startswith(key))
                found.append(
                    record(
                        cell,
                        key,
                        repeat,
                        run.seconds,
                        outcomes,
                        truth,
                        accuracy,
                        rival.model,
                        LIMIT_MS / 1000,
                    )
                )
                say(_line(run, found[-1]))
    return found, seen


def prefer(processes: Iterable[psutil.Process], nice: int) -> None:
    """Give *processes* that niceness, and their sessions too where Linux schedules those.

    Source:
        sched(7), the autogroup feature: niceness only tells apart processes of one session.
    """
    for process in processes:
        process.nice(nice)
        group = Path(f"/proc/{process.pid}/autogroup")
        with suppress(OSError):  # no such file, or the root group, which takes no shares
            group.write_text(str(nice))


def settle(server: Running) -> None:
    """Wait until *server* has done what it was given up on, so that it disturbs no other."""
    end = time.perf_counter() + SETTLE_S
    busy = True
    while busy and time.perf_counter() < end:
        before = server.cpu_s()
        time.sleep(0.2)
        busy = server.cpu_s() - before > 0.2 * IDLE


@contextmanager
def watched(server: Running) -> Iterator[list[Any]]:
    """Collect what ``GET /plan`` tells every `WATCH_S` until the block ends; ours has one."""
    told: list[Any] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_S):
            with suppress(OSError):  # another server has no such route, or is too busy
                told.append(ask(server, "/plan"))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield told
    finally:
        over.set()
        thread.join()


def _seen(told: Sequence[Any]) -> foretold.Seen:
    """Return means over the run; the end tells of its last calls only, and is soon forgotten."""
    ratios: dict[str, list[float]] = {}
    for plan in told:
        for each in (option for lane in plan["lanes"] for option in lane["options"]):
            ratios.setdefault(each["variant"], []).append(each["ratio"])
    upkeep = [plan["upkeep_ms"] for plan in told if plan["upkeep_ms"] is not None]
    return foretold.Seen(
        {variant: statistics.geometric_mean(found) for variant, found in ratios.items()},
        statistics.fmean(upkeep) if upkeep else 0.0,
    )


def _line(run: Run, found: Record) -> str:
    effective = found.rated / found.requests
    missed = 1 - found.in_time / found.requests
    answers = " ".join(f"{name}:{count}" for name, count in sorted(found.answers.items()))
    return (
        f"{found.repeat + 1}/{run.repeats} {found.cell.title:14} {found.rival:18}"
        f" {found.requests:5} effective {effective:.3f} missed {missed:.3f} right {found.right}"
        f" (late {found.late}, refused {found.refused}, failed {found.failed})"
        f" p50 {found.p50_ms:.0f} p99 {found.p99_ms:.0f} ms; sent late {found.sent_late_ms:.1f} ms;"
        f" {answers}"
    )


def foretelling(
    run: Run, capacity_rps: float, seen: Mapping[Cell, list[foretold.Seen]]
) -> list[foretold.Foretold]:
    """Return what the simulator says of the same arrivals on a host as slow as this one was."""
    policy = BUILD / f"policy-{OURS}" / "policy.yaml"
    rows = len(family.judged().classes)
    told = []
    for cell, runs in seen.items():
        for repeat, host in enumerate(runs):
            sent = schedule(cell, capacity_rps, run.seconds, repeat, rows)
            subject = foretold.subject(policy, BUILD / "cache", host)
            told.append(foretold.foretold(subject, sent, cell.trace, cell.load, repeat))
    return told


def pinned(run: Run, senders: Fleet) -> pins.Switched:
    """Return what became of requests to the contract's digits while pins alternated."""
    rival = rivals.digits()
    with served(rival.contender) as server:
        if run.nice:
            prefer(server.tree(), run.nice)
        warm(rival, server)
        return pins.switched(senders, rival.target(server.url), run.pins, rivals.DIGITS)


def warm(rival: Rival, server: Running) -> None:
    """Ask a few seconds' worth, so that nothing is paid for by the first cell."""
    body = Body(rival.bodies[0], {"Content-Type": "application/json"})
    burst(server.url + rival.contender.infer, body, connections=2, seconds=1)


def measure(run: Run, keys: Sequence[str]) -> dict[str, Any]:
    """Return all that was measured, as JSON."""
    chosen = [CHOICES[key]() for key in keys]
    with ExitStack() as stack:
        senders = stack.enter_context(fleet(PROCESSES))
        servers = {rival.key: stack.enter_context(served(rival.contender)) for rival in chosen}
        if run.nice:
            prefer((process for server in servers.values() for process in server.tree()), run.nice)
            prefer([psutil.Process(), *psutil.Process().children()], run.nice)
        for rival in chosen:
            warm(rival, servers[rival.key])
        fastest = next(rival for rival in chosen if rival.key == STATICS[0])
        capacity_rps = capacity(fastest, servers[fastest.key], 3.0)
        say(f"capacity: {capacity_rps:.0f} requests/s, {family.FASTEST} alone")
        records, seen = compared(run, chosen, servers, senders, capacity_rps)
        switched = pinned(run, senders) if run.pins else None
    told = foretelling(run, capacity_rps, seen)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "generator": f"{PROCESSES} processes of openloop.py; capacity by {generator()}",
        "capacity_rps": capacity_rps,
        "accuracy": family.accuracies(FAMILY),
        "names": {key: rival.contender.name for key, rival in zip(keys, chosen, strict=True)},
        "records": [asdict(found) for found in records],
        "seen": [[asdict(cell), [asdict(run) for run in runs]] for cell, runs in seen.items()],
        "foretold": [asdict(each) for each in told],
        "switched": None if switched is None else asdict(switched),
    }


def text_of(result: Mapping[str, Any]) -> str:
    """Return the tables of what `measure` returned, or what was read from its file."""
    rows = [
        Record(**(each | {"blocks": tuple(tuple(block) for block in each["blocks"])}))
        for each in result["records"]
    ]
    statics = [key for key in STATICS if key in result["names"]]
    told = [foretold.Foretold(**each) for each in result["foretold"]]
    switched = result["switched"] and pins.Switched(**result["switched"])
    return table(Results(rows, statics), result["names"], told, switched, _sentence(result))


def _sentence(result: Mapping[str, Any]) -> str:
    accuracy = ", ".join(
        f"{name} {100 * value:.1f} %" for name, value in result["accuracy"].items()
    )
    late = max(each["sent_late_ms"] for each in result["records"])
    return (
        f"Capacity is what {family.FASTEST} alone answers: {result['capacity_rps']:.0f} requests/s."
        f" Limit {LIMIT_MS} ms. Held-out accuracy: {accuracy}. {result['machine']}; load by"
        f" {result['generator']}, at most {late:.1f} ms late (p99); {result['date']}."
    )


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the tables, write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few cells, once, for seconds")
    parser.add_argument("--seconds", type=float, default=8, help="of each cell")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pins", type=int, default=10_000)
    parser.add_argument(
        "--nice", type=int, default=0, help="of all that is measured; below 0: root"
    )
    parser.add_argument("--traces", help="of poisson, gamma, mmpp, step, spike; default: all")
    parser.add_argument("--loads", help="of those of Poisson and gamma, as 0.6,5; default: all")
    parser.add_argument("--only", default=",".join(CHOICES), help=f"of {','.join(CHOICES)}")
    parser.add_argument("--skip-install", action="store_true", help="environments are as they are")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables into FILE")
    options = parser.parse_args()
    keys = [key for key in CHOICES if key in options.only.split(",")]
    if not {OURS, STATICS[0]} <= set(keys):
        parser.error(f"--only must hold {OURS} and {STATICS[0]}, which sets the capacity")
    traces = options.traces.split(",") if options.traces else {cell.trace for cell in CELLS}
    loads = {float(load) for load in options.loads.split(",")} if options.loads else set(LOADS)
    chosen = [
        cell
        for cell in CELLS
        if cell.trace in traces and (cell.load in loads or cell.trace not in ("poisson", "gamma"))
    ]
    run = Run(
        cells=QUICK if options.quick else chosen,
        repeats=1 if options.quick else options.repeats,
        seconds=3.0 if options.quick else options.seconds,
        pins=min(options.pins, 1000) if options.quick else options.pins,
        nice=options.nice,
    )
    if not options.skip_install:
        contenders.install(frozenset({"mlserver"} & set(keys)))
    family.build(FAMILY)
    result = measure(run, keys)
    folder = ROOT / "benchmarks/results"
    folder.mkdir(exist_ok=True)
    (folder / "switching.json").write_text(json.dumps(result, indent=2) + "\n")
    text = text_of(result)
    print(text)
    if options.update:
        update(options.update, "switching", text)


if __name__ == "__main__":
    main()
