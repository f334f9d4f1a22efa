"""What a run of `switching` measured, as tables in Markdown, and the aims beside it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from foretold import Foretold
from page import Aim, aim_lines
from pins import Switched
from switching_cells import Cell, Record

DRAWS = 4000  # of the bootstrap
SEED = 0
HELD = 0.005  # share of misses up to which a load counts as held
MISSES = 0.01  # of the most accurate alone, above which choosing must pay
POINTS = 100.0
OURS = "scanflow"


@dataclass(frozen=True, slots=True)
class Gain:
    """Effective accuracy of ours less another's on one cell, in points, with a 95 % interval."""

    value: float
    low: float
    high: float


def effective(records: Sequence[Record]) -> float:
    """Return the accuracy of answers in time, summed over all requests."""
    return sum(r.rated for r in records) / sum(r.requests for r in records)


def misses(records: Sequence[Record]) -> float:
    """Return the share of all requests without an answer in time."""
    return 1 - sum(r.in_time for r in records) / sum(r.requests for r in records)


def goodput(records: Sequence[Record]) -> float:
    """Return answers in time per second."""
    return sum(r.in_time for r in records) / sum(r.seconds for r in records)


def gain(ours: Sequence[Record], theirs: Sequence[Record]) -> Gain:
    """Return how much better *ours* did with the same requests.

    Both had the same requests of the same rows at the same instants, so blocks of due time are
    compared in pairs and drawn again together, over all repeats.

    Source:
        Künsch (1989), The jackknife and the bootstrap for general stationary observations: blocks,
        as neighbours in time share their fate; here they do not overlap.
    """
    theirs_by = {record.repeat: record for record in theirs}
    pairs = [
        (mine[0], mine[2] - other[2])
        for record in ours
        for mine, other in zip(record.blocks, theirs_by[record.repeat].blocks, strict=True)
    ]
    counts, gains = np.array(pairs, float).T
    drawn = np.random.default_rng(SEED).integers(len(pairs), size=(DRAWS, len(pairs)))
    values = gains[drawn].sum(axis=1) / np.maximum(1, counts[drawn].sum(axis=1))
    low, high = np.percentile(values, [2.5, 97.5])
    mean = gains.sum() / max(1.0, counts.sum())
    return Gain(*(float(value) * POINTS for value in (mean, low, high)))


class Results:
    """All records of a run, by cell and rival.

    Args:
        statics: Keys of our server's static variants, the fastest first, the most accurate last.
    """

    def __init__(self, records: Sequence[Record], statics: Sequence[str]) -> None:
        self._records = records
        self.statics = tuple(statics)
        self.cells = tuple(dict.fromkeys(record.cell for record in records))
        self.rivals = tuple(dict.fromkeys(record.rival for record in records))

    def of(self, cell: Cell, rival: str) -> list[Record]:
        """Return the repeats."""
        return [r for r in self._records if r.cell == cell and r.rival == rival]

    def best_static(self, cell: Cell) -> str:
        """Return the static variant with the highest effective accuracy on *cell*."""
        return max(self.statics, key=lambda key: effective(self.of(cell, key)))

    def gain(self, cell: Cell) -> Gain:
        """Return ours less the best static variant's."""
        return gain(self.of(cell, OURS), self.of(cell, self.best_static(cell)))


def aims(results: Results, told: Sequence[Foretold], switched: Switched | None) -> Iterator[Aim]:
    """Yield the project's aims with what was measured, as far as it was."""
    gains = {cell: results.gain(cell) for cell in results.cells}
    below = sum(found.high < 0 for found in gains.values())
    text = f"traces of {len(gains)} with effective accuracy below the best static variant's, 95 %"
    yield Aim(text, below, 0, at_least=False, unit="")
    fastest, best = results.statics[0], results.statics[-1]
    pressed = [c for c in results.cells if misses(results.of(c, best)) > MISSES]
    if pressed:
        text = f"traces above it, of {len(pressed)} where the most accurate alone misses over 1 %"
        above = sum(gains[cell].low > 0 for cell in pressed)
        yield Aim(text, above, len(pressed), at_least=True, unit="")
    held = [c for c in results.cells if misses(results.of(c, fastest)) <= HELD]
    if held:
        worst = max(misses(results.of(cell, OURS)) for cell in held)
        text = f"deadline misses where the fastest alone holds the load, worst of {len(held)}"
        yield Aim(text, worst * POINTS, HELD * POINTS, at_least=False, unit="%")
    yield from _past_saturation(results)
    yield from _against_foretold(results, told)
    if switched is not None:
        text = f"failed requests, of {switched.requests:,}, during {switched.pins:,} switches"
        yield Aim(text, switched.failed, 0, at_least=False, unit="")


def _past_saturation(results: Results) -> Iterator[Aim]:
    steady = sorted((c for c in results.cells if c.trace == "poisson"), key=lambda c: c.load)
    if steady and steady[-1].load >= 5:
        flows = [goodput(results.of(cell, OURS)) for cell in steady]
        yield Aim("goodput at 5 x capacity over its peak", flows[-1] / max(flows), 0.95, True)


def _against_foretold(results: Results, told: Sequence[Foretold]) -> Iterator[Aim]:
    if not told:
        return
    far, off_misses, off_effective = [], [], []
    for cell in results.cells:
        ours, said = results.of(cell, OURS), _mean(told, cell)
        far.append(said.optimum - effective(ours))
        allowed = max(0.005, 0.1 * misses(ours))
        off_misses.append(abs(said.misses - misses(ours)) / allowed)
        off_effective.append(abs(said.effective - effective(ours)))
    text = "effective accuracy short of the offline optimum, worst trace"
    yield Aim(text, max(far) * POINTS, 2, at_least=False, unit="points")
    text = "simulated misses off the live ones, of what is allowed (0.5 points or 10 %), worst"
    yield Aim(text, max(off_misses), 1, at_least=False)
    text = "simulated effective accuracy off the live one, worst trace"
    yield Aim(text, max(off_effective) * POINTS, 1, at_least=False, unit="points")


def _mean(told: Sequence[Foretold], cell: Cell) -> Foretold:
    mine = [each for each in told if (each.trace, each.load) == (cell.trace, cell.load)]
    figures = ("misses", "effective", "optimum")
    means = {name: statistics.fmean(getattr(each, name) for each in mine) for name in figures}
    return Foretold(cell.trace, cell.load, 0, **means)


def table(
    results: Results,
    names: Mapping[str, str],
    told: Sequence[Foretold],
    switched: Switched | None,
    sentence: str,
) -> str:
    """Return the tables in Markdown; *names* of the rivals are for people."""
    lines = [*_accuracy(results, names), "", *_ours(results, told), ""]
    if switched is not None:
        lines += [_switches(switched), ""]
    lines += [*aim_lines(aims(results, told, switched)), "", sentence]
    return "\n".join(lines)


def _accuracy(results: Results, names: Mapping[str, str]) -> Iterator[str]:
    """Yield effective accuracy and misses of all, by cell."""
    yield (
        "| effective accuracy (misses), % | " + " | ".join(names[k] for k in results.rivals) + " |"
    )
    yield "|---|" + "---|" * len(results.rivals)
    for cell in results.cells:
        cells = [
            f"{effective(found) * POINTS:.1f} ({misses(found) * POINTS:.1f})"
            for found in (results.of(cell, rival) for rival in results.rivals)
        ]
        yield f"| {cell.title} | " + " | ".join(cells) + " |"


def _ours(results: Results, told: Sequence[Foretold]) -> Iterator[str]:
    """Yield what only ours has: the gain, who answered, what was foretold."""
    yield (
        "| scanflow-serve | gain over the best static, points (95 %) | goodput | p50 | p99 |"
        " answered by, % | simulated | optimum |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for cell in results.cells:
        found, ours = results.gain(cell), results.of(cell, OURS)
        total = sum(sum(r.answers.values()) for r in ours) or 1
        models = sorted({name for r in ours for name in r.answers}, key=_width)
        shares = ", ".join(
            f"{name} {sum(r.answers.get(name, 0) for r in ours) / total * POINTS:.0f}"
            for name in models
        )
        p50, p99 = (statistics.median(getattr(r, q) for r in ours) for q in ("p50_ms", "p99_ms"))
        foretold = "| | "
        if told:
            said = _mean(told, cell)
            simulated = f"{said.effective * POINTS:.1f} ({said.misses * POINTS:.1f})"
            foretold = f"| {simulated} | {said.optimum * POINTS:.1f} "
        yield (
            f"| {cell.title} | {found.value:+.1f} ({found.low:+.1f} to {found.high:+.1f}) |"
            f" {goodput(ours):.0f}/s | {p50:.0f} ms | {p99:.0f} ms | {shares} {foretold}|"
        )


def _width(name: str) -> int:
    return int(name.rpartition("-")[2])


def _switches(switched: Switched) -> str:
    shares = ", ".join(f"{name} {count:,}" for name, count in switched.answers.items())
    return (
        f"{switched.pins:,} pins at {switched.pins_per_s:,.0f}/s under {switched.requests:,}"
        f" requests: {switched.changes:,} times another variant answered than the request before"
        f" ({shares}), {switched.failed} failed, p99 {switched.p99_ms:.1f} ms."
    )
