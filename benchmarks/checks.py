"""What checks cost: on the request path, of requests/s, in memory, and what kill -9 loses.

    python benchmarks/checks.py [--quick] [--rounds 7] [--update README.md]

Needs the extra `convert`, which trains the autoencoder that checks are served with by default.
Method: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import check_costs
import check_servers
import psutil
from check_policies import CACHE, Pair, pairs
from check_servers import Load, Memory
from check_tables import Result, summary, table
from contenders import ROOT
from load import generator
from page import machine, update
from switching import prefer

ROWS = 10_000_000  # over which the state must stay as it is
CALLS = 20_000


def measured(
    chosen: Sequence[Pair], *, rounds: int, seconds: float, rows: int, nice: int = 0
) -> Result:
    """Return all figures.

    Args:
        chosen: The first one's ratios are held to the aim.
        rounds: Pairs of bursts, each of *seconds*, at each number of connections.
        rows: Shown to the checks in process.
        nice: Of servers and load, and of calls that are timed in process.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        loads: list[Load] = []
        memory: list[Memory] = []
        for pair in chosen:
            say(f"servers with and without checks, {pair.name} model")
            place = folder / pair.off.parent.name
            found, taken = check_servers.loads(pair, rounds, seconds, place, nice)
            loads += found
            memory.append(taken)
        say("imports, kill -9")
        imported, forbidden = check_servers.libraries(chosen[-1], folder)
        lost = check_servers.killed(chosen[-1], folder, 450, 3 * seconds)
        say("in process")
        with check_costs.opened(chosen[-1].on, folder / "process") as site:
            prefer([psutil.Process()], nice)
            inline = check_costs.inline(site, min(CALLS, rows))
            prefer([psutil.Process()], 0)
            kept = check_costs.kept(site, rows)
    return Result(inline, kept, loads, memory, lost, rounds, len(imported), sorted(forbidden))


def report(lines: Iterable[str], result: Result) -> str:
    """Return the lines of tables, and where they come from."""
    where = f"{machine()}; load by {generator()}; {result.rounds} rounds; "
    return "\n".join([*lines, "", f"{where}{time.strftime('%Y-%m-%d')}."])


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the tables, write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2, help="of each burst")
    parser.add_argument("--rows", type=int, default=ROWS, help="over which the state is watched")
    parser.add_argument("--quick", action="store_true", help="one short round: a smoke test")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the aims into FILE")
    nice = "niceness of what is timed; below 0, as root, for a machine that is not idle"
    parser.add_argument("--nice", type=int, default=0, help=nice)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.rows = 1, 1, 5000
    os.environ.update(CACHE)
    logging.getLogger("scanflow_serve").setLevel(logging.CRITICAL)  # flagged rows are the point
    result = measured(
        pairs(),
        rounds=options.rounds,
        seconds=options.seconds,
        rows=options.rows,
        nice=options.nice,
    )
    folder = ROOT / "benchmarks/results"
    folder.mkdir(exist_ok=True)
    (folder / "checks.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    text = report(table(result), result)
    print(text)
    if options.update:
        update(options.update, "checks", report(summary(result), result))
        update(ROOT / "benchmarks/README.md", "checks", text)


if __name__ == "__main__":
    main()
