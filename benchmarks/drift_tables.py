"""What a run of `drift` measured, as tables in Markdown, and the aims beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from calibration_sizes import LONG, SHORT, Size
from dependent_streams import Kept
from page import Aim
from quiet_streams import EARLY, Quiet
from sequence_streams import CHANGES, Windows
from shifted_streams import Delay
from watched import LEAST_SHARE, RUN_LENGTH
from window_limits import SEEN, Rate, Sides
from window_power import PORTFOLIO, SIZES, TOLD, Power

POWER_AIMS = (0.45, 0.50, 0.60, 0.70, 0.74, 0.78)
MOST_FALSE = 0.08
MOST_WARNED = 0.01
BOUND = LEAST_SHARE * RUN_LENGTH
MET = {True: "met", False: "**not met**"}


def quiet_table(found: Mapping[str, Quiet]) -> Iterator[str]:
    """Yield the false alarms on independent rows."""
    yield (
        "| clean traffic | runs | alarms | mean rows to one | lower 95 % |"
        f" quiet for {EARLY:,} | warned |"
    )
    yield "|---|---|---|---|---|---|---|"
    for name, each in found.items():
        yield (
            f"| {name} | {each.runs} | {each.alarms} | {rows(each.mean)} | {rows(each.lower)} |"
            f" {each.passed:.2f} | {each.warned} |"
        )


def quiet_aims(found: Mapping[str, Quiet]) -> list[Aim]:
    """Return the aims of false alarms: of all sets together, and of the one that does worst."""
    total = found["all"]
    sets = {name: each for name, each in found.items() if name != "all"}
    worst = min(sets, key=lambda name: sets[name].lower)
    seldom = min(sets, key=lambda name: sets[name].passed - sets[name].least)
    least = round(sets[seldom].least, 3)
    warned = total.warned / total.runs
    bound = f"clean rows to an alarm, lower 95 % bound of {total.runs} runs"
    early = f"runs without an alarm in {EARLY:,} rows"
    return [
        Aim(f"{bound}, {len(sets)} sets", total.lower, BOUND, True, "rows"),
        Aim(
            f"of {sets[worst].runs}, the worst set: {worst}", sets[worst].lower, BOUND, True, "rows"
        ),
        Aim(early, total.passed, round(total.least, 3), True, "of 1"),
        Aim(f"the worst set: {seldom}", sets[seldom].passed, least, True, "of 1"),
        Aim("clean references called dependent", warned, MOST_WARNED, False, "of 1"),
    ]


def dependent_table(found: Iterable[Kept]) -> Iterator[str]:
    """Yield what becomes of the promise where rows depend on one another."""
    yield "| clean, but rows depend | runs | refused | warned | alarms | mean rows | promise |"
    yield "|---|---|---|---|---|---|---|"
    for each in found:
        figures = f"{each.runs} | {each.refused} | {each.warned}"
        quiet = each.quiet
        if quiet is None:
            yield f"| {each.name} | {figures} | | | {each.verdict} |"
            continue
        yield (
            f"| {each.name} | {figures} | {quiet.alarms} | {rows(quiet.mean)} | {each.verdict} |"
        )


def dependent_aims(found: Sequence[Kept]) -> list[Aim]:
    """Return the aim that no promise is broken in silence."""
    telling = [each for each in found if each.told]
    silent = sum(each.silent for each in telling)
    text = f"kinds of dependent rows, of {len(telling)} whose reference can tell, that break it"
    return [Aim(f"{text} without a warning", silent, 0, False, "kinds")]


def delay_table(title: str, found: Iterable[Delay]) -> Iterator[str]:
    """Yield how many rows a change takes to be seen."""
    yield f"| {title} | seen by | runs | median rows | p90 | missed | alarm before it | named |"
    yield "|---|---|---|---|---|---|---|---|"
    for each in found:
        figures = f"{rows(each.median)} | {rows(each.p90)} | {each.missed} | {each.early}"
        yield f"| {each.name} | {each.seen_by} | {each.runs} | {figures} | {each.cause} |"


def delay_aims(found: Iterable[Delay]) -> list[Aim]:
    """Return the aims of delays."""
    return [
        Aim(f"{each.name}, {each.seen_by}, median", each.median, each.aim, False, "rows")
        for each in found
        if each.aim is not None
    ]


def sequence_table(found: Iterable[Windows]) -> Iterator[str]:
    """Yield how well methods of windows tell changed sequences apart."""
    yield f"| AUC of windows of 32 rows | {' | '.join(CHANGES)} | a window |"
    yield "|---" * (len(CHANGES) + 2) + "|"
    for each in found:
        shares = " | ".join(f"{each.auc[change]:.3f}" for change in CHANGES)
        yield f"| {each.seen_by} | {shares} | {each.window_us:.0f} us |"


def power_table(found: Iterable[Power]) -> Iterator[str]:
    """Yield how often windows find a shift."""
    yield f"| test, share of 21 shifts found at n = | {' | '.join(map(str, SIZES))} | clean |"
    yield "|---" * (len(SIZES) + 2) + "|"
    for each in found:
        shares = " | ".join(f"{share:.2f}" for share in each.found)
        yield f"| {each.test} | {shares} | {min(each.false):.2f} to {max(each.false):.2f} |"


def told_table(found: Sequence[Power]) -> Iterator[str]:
    """Yield that no detector alone sees each shift."""
    yield f"| share found at n = 100 | {' | '.join(TOLD)} |"
    yield "|---" * (len(TOLD) + 1) + "|"
    for each in found:
        yield f"| {each.test} | {' | '.join(f'{share:.2f}' for share in each.told)} |"


def power_aims(found: Sequence[Power]) -> list[Aim]:
    """Return the aims of power, and that the portfolio beats each test alone at each size."""
    ours = next(each for each in found if each.test == PORTFOLIO)
    wanted = zip(SIZES, ours.found, POWER_AIMS, strict=True)
    aims = [Aim(f"portfolio, {n} rows", share, aim, True, "of 1") for n, share, aim in wanted]
    others = [each.found for each in found if each is not ours]
    behind = sum(max(column) > share for *column, share in zip(*others, ours.found, strict=True))
    ahead = f"sizes, of {len(SIZES)}, at which a test alone finds more than the portfolio"
    return [
        *aims,
        Aim(ahead, behind, 0, False, "of them"),
        Aim("portfolio, clean windows found changed", max(ours.false), MOST_FALSE, False, "of 1"),
    ]


def limit_table(found: Iterable[Rate]) -> Iterator[str]:
    """Yield how often clean rows and windows are flagged."""
    yield from ("| clean | flagged | aim | |", "|---|---|---|---|")
    for each in found:
        aim = f"{each.low:.1%} to {each.high:.1%}"
        yield f"| {each.name} | {each.rate:.2%} | {aim} | {MET[each.met]} |"


def limit_aims(found: Sequence[Rate]) -> list[Aim]:
    """Return the aim that all limits hold."""
    missed = sum(not each.met for each in found)
    return [
        Aim(f"limits, of {len(found)}, that flag clean rows off their rate", missed, 0, False, "")
    ]


def side_table(found: Iterable[Sides]) -> Iterator[str]:
    """Yield what a test that looks up only does not see."""
    yield f"| error of {SEEN} rows, all changed | found, looking up | found, both sides |"
    yield "|---|---|---|"
    for each in found:
        yield f"| {each.change} | {each.up:.0%} | {each.both:.0%} |"


def size_table(found: Iterable[Size]) -> Iterator[str]:
    """Yield what run length calibration sets of each size honour."""
    yield (
        f"| calibration rows | promised at most | asked {SHORT:,} | in the first tenth |"
        f" asked {LONG:,} | in the first tenth | 1 sd, at {SHORT:,} | the same, `strict` |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for each in found:
        yield (
            f"| {each.rows:,} | {each.honoured:,} | {rows(each.short)} | {each.short_early:.0%} |"
            f" {rows(each.long)} | {each.long_early:.0%} | {rows(each.delay)} |"
            f" {rows(each.strict_delay)} |"
        )


def size_aims(found: Iterable[Size]) -> list[Aim]:
    """Return the aim that the default run length is honoured wherever it is promised."""
    worst = min(each.short for each in found if each.honoured >= SHORT)
    text = f"one score's mean rows to an alarm where {SHORT:,} are promised, the worst size"
    return [Aim(text, worst, LEAST_SHARE * SHORT, True, "rows")]


def rows(count: float) -> str:
    """Return a number of rows for people."""
    return "none" if count == float("inf") else f"{count:,.0f}"
