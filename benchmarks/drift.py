"""What the checks promise of drift, held against streams: false alarms, delays, power, limits.

    python benchmarks/drift.py [--quick] [--runs 200] [--only quiet,delays,…] [--update README.md]

Fixed seeds, no download, the product's own code; goals and method: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import quiet_streams
import shifted_streams
import window_power
from page import Aim, aim_lines, machine, update
from quiet_streams import Kept, Quiet
from shifted_streams import Delay
from threadpoolctl import threadpool_limits
from watched import RUN_LENGTH
from window_power import PORTFOLIO, SIZES, Power, Rate

ROOT = Path(__file__).parent.parent
POWER_AIMS = (0.45, 0.50, 0.60, 0.70, 0.74, 0.78)
MOST_FALSE = 0.08
FULL_RUNS, QUICK_RUNS = 200, 8


def quiet(runs: int) -> Iterator[str]:
    """Yield the false alarms on independent rows."""
    censored = quiet_streams.CENSORED if runs > QUICK_RUNS else 4000
    found = quiet_streams.independent(runs, censored)
    _keep("quiet", [asdict(run) for run in found])
    total = quiet_streams.summary(found)
    yield from ("| clean traffic | runs | alarms | mean rows to an alarm |", "|---|---|---|---|")
    for name in dict.fromkeys(run.population for run in found):
        yield _quiet_line(name, quiet_streams.summary(r for r in found if r.population == name))
    yield _quiet_line("all", total)
    yield ""
    yield from aim_lines(
        [
            Aim("lower 95 % bound of the mean", total.lower, 0.8 * RUN_LENGTH, True, "rows"),
            Aim(
                "quiet for the first 2,000 rows", total.passed, round(total.least, 3), True, "of 1"
            ),
        ]
    )


def _quiet_line(name: str, found: Quiet) -> str:
    return f"| {name} | {found.runs} | {found.alarms} | {_rows(found.mean)} |"


def dependent(runs: int) -> Iterator[str]:
    """Yield what becomes of the promise where rows remember."""
    censored = quiet_streams.CENSORED if runs > QUICK_RUNS else 2000
    found = quiet_streams.dependent(max(2, runs // 10), censored)
    _keep("dependent", [asdict(each) for each in found])
    yield "| nothing changes, rows depend | refused | alarms | mean rows to an alarm | promise |"
    yield "|---|---|---|---|---|"
    for each in found:
        yield _kept_line(each)


def _kept_line(each: Kept) -> str:
    if each.quiet is None:
        return f"| {each.name} | {each.refused} | | | refused |"
    found = each.quiet
    # Few runs, so the bound says little where some alarm; a mean below the promise breaks it.
    verdict = "kept" if found.mean >= RUN_LENGTH else "**broken**"
    of = f"{found.alarms} of {found.runs}"
    return f"| {each.name} | {each.refused} | {of} | {_rows(found.mean)} | {verdict} |"


def delays(runs: int) -> Iterator[str]:
    """Yield the delays on digits, and where the reference is poisoned."""
    found = shifted_streams.delays(max(3, runs // 5))
    _keep("delays", [asdict(each) for each in found])
    yield from _delay_table("change of digits", found)
    aims = [Aim(f"{d.name}, median", d.median, d.aim, False, "rows") for d in found if d.aim]
    yield ""
    yield from aim_lines(aims)
    yield ""
    spoiled = shifted_streams.poisoned(max(2, runs // 10))
    _keep("poisoned", [asdict(each) for each in spoiled])
    yield from _delay_table("heavy noise, which was already in", spoiled)


def sequences(runs: int) -> Iterator[str]:
    """Yield the delays of what no marginal shows."""
    found = shifted_streams.sequences(max(2, runs // 20))
    _keep("sequences", [asdict(each) for each in found])
    yield from _delay_table("four sines: seen by", found)


def _delay_table(title: str, found: list[Delay]) -> Iterator[str]:
    yield f"| {title} | median rows | p90 | missed | alarm before it | named |"
    yield "|---|---|---|---|---|---|"
    for each in found:
        figures = f"{_rows(each.median)} | {_rows(each.p90)} | {each.missed} | {each.early}"
        yield f"| {each.name} | {figures} | {each.cause} |"


def power(runs: int) -> Iterator[str]:
    """Yield how often windows find a shift."""
    found = window_power.power(*((8, 6) if runs > QUICK_RUNS else (1, 1)))
    _keep("power", [asdict(each) for each in found])
    yield f"| test, share of 21 shifts found at n = | {' | '.join(map(str, SIZES))} | clean |"
    yield "|---" * (len(SIZES) + 2) + "|"
    for each in found:
        shares = " | ".join(f"{share:.2f}" for share in each.found)
        yield f"| {each.test} | {shares} | {min(each.false):.2f} to {max(each.false):.2f} |"
    yield ""
    yield from aim_lines(_power_aims(next(each for each in found if each.test == PORTFOLIO)))


def _power_aims(found: Power) -> list[Aim]:
    wanted = zip(SIZES, found.found, POWER_AIMS, strict=True)
    aims = [Aim(f"portfolio, {n} rows", share, aim, True, "of 1") for n, share, aim in wanted]
    return [*aims, Aim("portfolio, clean windows", max(found.false), MOST_FALSE, False, "of 1")]


def limits(runs: int) -> Iterator[str]:
    """Yield how often clean rows and windows are flagged."""
    splits, repeats = (60, 2000) if runs > QUICK_RUNS else (10, 300)
    found = [*window_power.outlier_rates(splits), *window_power.window_rates(repeats)]
    _keep("limits", [asdict(each) for each in found])
    yield from ("| clean | flagged | aim | |", "|---|---|---|---|")
    for each in found:
        yield _rate_line(each)


def _rate_line(each: Rate) -> str:
    verdict = "met" if each.met else "**not met**"
    aim = f"{each.low:.1%} to {each.high:.1%}"
    return f"| {each.name} | {each.rate:.2%} | {aim} | {verdict} |"


SECTIONS: dict[str, Callable[[int], Iterator[str]]] = {
    "quiet": quiet,
    "dependent": dependent,
    "delays": delays,
    "sequences": sequences,
    "power": power,
    "limits": limits,
}
_RESULT: dict[str, object] = {}


def _keep(name: str, figures: object) -> None:
    _RESULT[name] = figures


def _rows(count: float) -> str:
    return "none" if count == float("inf") else f"{count:,.0f}"


def main() -> None:
    """Measure, print the tables, write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=FULL_RUNS, help="clean streams")
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_RUNS} short runs: a smoke test"
    )
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables into FILE")
    options = parser.parse_args()
    runs = QUICK_RUNS if options.quick else options.runs
    parts: list[str] = []
    with threadpool_limits(1):
        for name in options.only.split(","):
            start = time.perf_counter()
            parts += [*SECTIONS[name](runs), ""]
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    parts.append(f"{machine()}; {time.strftime('%Y-%m-%d')}; {runs} runs.")
    folder = ROOT / "benchmarks/results"
    folder.mkdir(exist_ok=True)
    (folder / "drift.json").write_text(json.dumps(_RESULT, indent=2, default=float) + "\n")
    text = "\n".join(parts)
    print(text)
    if options.update:
        update(options.update, "drift", text)


if __name__ == "__main__":
    main()
