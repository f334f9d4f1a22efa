"""What a run of `drift_peers` measured, as tables in Markdown; where a peer wins they say so."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "scanflow-serve"
EARLY, MISSED = -2.0, -1.0  # as `peers/drift_trials.py` has them
PROMISED = 1.0  # false alarms in 10,000 clean rows, that our default promises at most
MORE = "it cries more often on clean rows"
LEVEL = 0.08  # share of clean windows that may be flagged


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of all methods, by name.

    Attributes:
        sizes_mb: Of the peers' environments.
        absent: Why a peer was not tried.
        runs: At most; a slow method makes fewer.
    """

    methods: Mapping[str, Mapping[str, Any]]
    sizes_mb: Mapping[str, float]
    absent: Mapping[str, str]
    runs: int


def per_10_000(found: Mapping[str, Any]) -> float:
    """Return the false alarms in 10,000 clean rows."""
    return float(1e4 * found["alarms"] / found["rows"])


def delay(found: Sequence[float]) -> float:
    """Return the median of delays, missed ones infinite; runs with an alarm before count not."""
    valid = [float("inf") if each == MISSED else each for each in found if each != EARLY]
    return statistics.median(valid) if valid else float("nan")


def share(counts: Sequence[int]) -> float:
    """Return how many of those tested were flagged."""
    return counts[0] / counts[1]


def table(found: Measured) -> Iterator[str]:
    """Yield both tables, who wins what, and the sizes."""
    yield from _streams(_kind(found, "streaming"))
    yield ""
    yield from _windows(_kind(found, "windows"))
    yield ""
    for line in wins(found):
        yield f"- {line}"
    yield ""
    sizes = [f"{name}: {size:,.0f} MiB" for name, size in found.sizes_mb.items()]
    missing = [f"{name}: {why}" for name, why in found.absent.items()]
    yield "Installed, with what each brings: " + "; ".join([*sizes, *missing]) + "."


def summary(found: Measured) -> Iterator[str]:
    """Yield three lines: ours, and where a peer wins."""
    streams, windows = _kind(found, "streaming"), _kind(found, "windows")
    ours = next(each for name, each in streams.items() if name.startswith(OURS))
    theirs = [per_10_000(each) for name, each in streams.items() if not name.startswith(OURS)]
    text = f"- False alarms in 10,000 clean rows: ours {per_10_000(ours):.1f}"
    yield text + (f", peers {min(theirs):.1f} to {max(theirs):.1f}." if theirs else ".")
    false = {name: max(map(share, each["false"].values())) for name, each in windows.items()}
    mine = next(value for name, value in false.items() if name.startswith(OURS))
    others = [value for name, value in false.items() if not name.startswith(OURS)]
    text = f"- Clean windows flagged, of the worst size: ours {mine:.0%}"
    yield text + (f", peers {min(others):.0%} to {max(others):.0%}." if others else ".")
    yield f"- {_winners(found)}"


def _winners(found: Measured) -> str:
    """Return who is better than ours in something, apart by whether at as few false alarms."""
    lines = list(wins(found))
    names = {
        noisy: sorted({line.partition(" wins in ")[0] for line in lines if noisy == (MORE in line)})
        for noisy in (False, True)
        if any(" wins in " in line for line in lines)
    }
    texts = ((False, "as few"), (True, "more"))
    told = [f"at {many} false alarms, {'; '.join(names[n])}" for n, many in texts if names.get(n)]
    if not told:
        return "No peer wins."
    return f"Peers that are better in a shift: {', and '.join(told)}."


def wins(found: Measured) -> Iterator[str]:
    """Yield where a peer is better than ours, and whether it keeps its false alarms low there."""
    streams, windows = _kind(found, "streaming"), _kind(found, "windows")
    figures = [
        *_compared(streams, _delays, lambda each: per_10_000(each) <= PROMISED, least=True),
        *_compared(windows, _power, _level, least=False),
    ]
    if not figures:
        yield "No peer wins."
    yield from figures


def _delays(found: Mapping[str, Any]) -> dict[str, float]:
    return {f"{name}, rows until the alarm": delay(rows) for name, rows in found["delays"].items()}


def _power(found: Mapping[str, Any]) -> dict[str, float]:
    return {f"shifts found in {n} rows": share(counts) for n, counts in found["power"].items()}


def _level(found: Mapping[str, Any]) -> bool:
    return all(share(counts) <= LEVEL for counts in found["false"].values())


def _compared(
    methods: Mapping[str, Mapping[str, Any]], figures: Any, honest: Any, *, least: bool
) -> Iterator[str]:
    ours = next(figures(each) for name, each in methods.items() if name.startswith(OURS))
    for name, each in methods.items():
        if name.startswith(OURS):
            continue
        for what, value in figures(each).items():
            if (value < ours[what]) if least else (value > ours[what]):
                note = "" if honest(each) else f"; {MORE}"
                yield f"{name} wins in {what}: {_number(value)}, ours {_number(ours[what])}{note}."


def _kind(found: Measured, kind: str) -> dict[str, Mapping[str, Any]]:
    return {name: each for name, each in found.methods.items() if each["kind"] == kind}


def _streams(methods: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    shifts = list(next(iter(methods.values()))["delays"])
    yield f"| row by row | false alarms in 10,000 | {' | '.join(shifts)} | us a row | runs |"
    yield "|---" * (len(shifts) + 4) + "|"
    for name, each in methods.items():
        delays = " | ".join(_delay(each["delays"][shift]) for shift in shifts)
        costs = f"{each['row_us']:,.0f} | {each['runs']}"
        yield f"| {name} | {per_10_000(each):.1f} | {delays} | {costs} |"


def _delay(found: Sequence[float]) -> str:
    """Return the median, and how many runs missed the shift or had an alarm before it."""
    missed, early = found.count(MISSED), found.count(EARLY)
    notes = [f"{missed} missed"] * bool(missed) + [f"{early} before"] * bool(early)
    return _number(delay(found)) + (f" ({', '.join(notes)} of {len(found)})" if notes else "")


def _windows(methods: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    first = next(iter(methods.values()))
    false, power = list(first["false"]), list(first["power"])
    heads = [*(f"clean, {n} rows" for n in false), *(f"shifts, {n} rows" for n in power)]
    yield f"| windows: share flagged | {' | '.join(heads)} | ms a window |"
    yield "|---" * (len(heads) + 2) + "|"
    for name, each in methods.items():
        shares = [*(each["false"][n] for n in false), *(each["power"][n] for n in power)]
        cells = " | ".join(f"{share(counts):.0%} of {counts[1]}" for counts in shares)
        yield f"| {name} | {cells} | {each['window_ms']:.1f} |"


def _number(value: float) -> str:
    if value != value:  # no run was quiet before the shift
        return "-"
    if value == float("inf"):
        return "none"
    return f"{value:,.0f}" if value >= 1 else f"{value:.2f}"
