"""What the checks promise of drift, held against streams: false alarms, delays, power, limits.

    python benchmarks/drift.py [--quick] [--only quiet,delays,…] [--update README.md]

Fixed seeds, no download, the product's own code; goals and method: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import calibration_sizes
import dependent_streams
import detectors
import drift_tables as tables
import quiet_streams
import sequence_streams
import shifted_streams
import window_limits
import window_power
from novel_levels import novel_levels
from page import Aim, aim_lines, machine, update
from parallel import Workers

ROOT = Path(__file__).parent.parent
SHORT = "the aims into FILE, the tables into benchmarks/README.md"
TRAINED, STAND_IN = "autoencoder", "pca"
FULL_RUNS = 200


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run.

    Attributes:
        clean: Streams of each population.
        censored: Rows after which they end.
        dependent: Streams of each kind whose rows depend.
        references: Fresh ones that a shift is tried on, without training and with it.
        trained: The same, where a network is trained on each.
        streams: Live ones on each trained reference.
        sequence: References of sequences, their rows, and epochs of training.
        power: Splits, and draws on each.
        splits: Of digits, for the share of rows flagged.
        windows: Clean windows of each size.
        sizes: Streams for each calibration size, at the short and the long run length.
        method: Reconstructor, where one is to be trained.
    """

    clean: int = FULL_RUNS
    censored: int = quiet_streams.CENSORED
    dependent: int = 40
    references: int = 40
    trained: int = 8
    streams: int = 5
    sequence: tuple[int, int, int | None] = (1, 10_000, None)
    power: tuple[int, int] = (8, 6)
    splits: int = 60
    windows: int = 2000
    sizes: tuple[int, int] = (200, 24)
    method: str = TRAINED


FULL = Scale()
QUICK = Scale(1, 2000, 2, 2, 1, 1, (1, 5000, 1), (1, 1), 4, 300, (2, 0), STAND_IN)


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page.

    Attributes:
        caption: How much was run.
        lines: Tables.
        figures: All that they were made of.
    """

    caption: str
    lines: list[str]
    aims: list[Aim]
    figures: Any

    @classmethod
    def restored(cls, kept: dict[str, Any]) -> Section:
        """Return the section that was written as JSON."""
        aims = [Aim(**aim) for aim in kept["aims"]]
        return cls(kept["caption"], kept["lines"], aims, kept["figures"])


def quiet(workers: Workers, scale: Scale) -> Section:
    """Return the false alarms on independent rows."""
    given = {"censored": scale.censored}
    runs = quiet_streams.independent(workers, scale.clean, **given)
    names = dict.fromkeys(run.population for run in runs)
    found = {
        name: quiet_streams.summary(run for run in runs if run.population == name) for name in names
    }
    found["all"] = quiet_streams.summary(runs)
    aims = tables.quiet_aims(found)
    least = [
        quiet_streams.Stream("digits", seed, reference=quiet_streams.LEAST_REFERENCE, **given)
        for seed in range(scale.clean)
    ]
    learnt = [
        quiet_streams.Stream("digits", seed, settings={"method": scale.method}, **given)
        for seed in range(scale.trained)
    ]
    others = {
        f"digits, {quiet_streams.LEAST_REFERENCE} reference rows": least,
        f"digits, {scale.method}": learnt,
    }
    for name, streams in others.items():
        found[name] = quiet_streams.summary(workers.map(quiet_streams.until_alarm, streams))
    caption = (
        f"False alarms on independent rows: {scale.clean} streams of each set, fresh splits of "
        f"{quiet_streams.REFERENCE:,} rows each, ended at {scale.censored:,} rows."
    )
    return Section(caption, list(tables.quiet_table(found)), aims, _plain(found.values()))


def dependent(workers: Workers, scale: Scale) -> Section:
    """Return what becomes of the promise where rows depend on one another."""
    found = dependent_streams.dependent(workers, scale.dependent, scale.censored)
    caption = (
        f"False alarms where rows depend on one another: {scale.dependent} streams of each kind, "
        f"ended at {scale.censored:,} rows."
    )
    lines = list(tables.dependent_table(found))
    return Section(caption, lines, tables.dependent_aims(found), _plain(found))


def delays(workers: Workers, scale: Scale) -> Section:
    """Return the delays on digits, of a new category, and where the reference is poisoned."""
    own = [shift for shift in shifted_streams.SHIFTS if shift.before is None]
    given = {"method": scale.method}
    found = [
        *shifted_streams.delays(workers, scale.trained, scale.streams, own, **given),
        *shifted_streams.delays(workers, scale.references, 1),
    ]
    found.append(novel_levels(scale.references))
    spoiled = shifted_streams.poisoned(workers, scale.references // 2)
    lines = [
        *tables.delay_table("change", found),
        "",
        *tables.delay_table("heavy noise, of which the reference already had", spoiled),
    ]
    caption = (
        f"Rows until a change of digits is seen, {shifted_streams.CALM} rows after the check was "
        f"armed: {scale.references} fresh references by PCA, and {scale.trained} trained ones with "
        f"{scale.streams} streams each."
    )
    return Section(caption, lines, tables.delay_aims(found), _plain([*found, *spoiled]))


def sequences(workers: Workers, scale: Scale) -> Section:
    """Return the delays of what no marginal shows, and how windows compare."""
    references, rows, epochs = scale.sequence
    found, windows = sequence_streams.sequences(workers, references, scale.streams, rows, epochs)
    lines = [*tables.delay_table("four sines", found), "", *tables.sequence_table(windows)]
    caption = (
        f"Changes of sequences that leave each channel's marginal as it was: {references} "
        f"references of {rows:,} rows, {scale.streams} streams each."
    )
    return Section(caption, lines, [], _plain([*found, *windows]))


def power(workers: Workers, scale: Scale) -> Section:
    """Return how often windows find a shift."""
    found = window_power.power(workers, *scale.power, scale.method)
    lines = [*tables.power_table(found), "", *tables.told_table(found)]
    splits, draws = scale.power
    caption = (
        f"Windows held against {window_power.HELD} rows of digits (after Failing Loudly): {splits} "
        f"splits, {draws} draws of each window, the dear tests on {window_power.DEAR_DRAWS}."
    )
    return Section(caption, lines, tables.power_aims(found), _plain(found))


def limits(workers: Workers, scale: Scale) -> Section:
    """Return how often clean rows and windows are flagged, and why both sides are looked at."""
    rates, sides = window_limits.splits(workers, scale.splits, STAND_IN)
    if scale.method != STAND_IN:  # errors of a network may fall where those of a PCA rise
        _, sides = window_limits.splits(workers, scale.power[0], scale.method)
    found = [*rates, *window_limits.window_rates(scale.windows)]
    lines = [*tables.limit_table(found), "", *tables.side_table(sides)]
    caption = (
        f"Clean rows and windows flagged: {scale.splits} splits of digits, {scale.windows:,} "
        f"windows of each size; and errors of the {scale.method}, where the mean only is looked at."
    )
    return Section(caption, lines, tables.limit_aims(found), _plain([*found, *sides]))


def sizes(workers: Workers, scale: Scale) -> Section:
    """Return what run length calibration sets honour."""
    found = calibration_sizes.sizes(workers, *scale.sizes)
    short, long = scale.sizes
    caption = (
        f"Rows to a false alarm of one normal score, by the rows that calibrate it: {short} sets, "
        f"{long} at the long run length, ended at {calibration_sizes.CENSORED} times it; alarms in "
        "the first tenth are a set's own luck; and rows until a move by one standard deviation is "
        "seen."
    )
    lines = list(tables.size_table(found))
    return Section(caption, lines, tables.size_aims(found), _plain(found))


SECTIONS: dict[str, Callable[[Workers, Scale], Section]] = {
    "quiet": quiet,
    "dependent": dependent,
    "delays": delays,
    "sequences": sequences,
    "power": power,
    "limits": limits,
    "sizes": sizes,
}


def _plain(found: Iterable[Any]) -> list[dict[str, Any]]:
    return [asdict(each) for each in found]


def main() -> None:
    """Measure, print the tables, write them where asked."""
    options = _options()
    scale = QUICK if options.quick else replace(FULL, clean=options.runs)
    detectors.keep_in(ROOT / ".build/bench/drift")
    workers = Workers(options.processes)
    found: dict[str, Section] = {}
    for name in options.only.split(","):
        start = time.perf_counter()
        found[name] = SECTIONS[name](workers, scale)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    workers.close()
    where = f"{machine()}; {time.strftime('%Y-%m-%d')}."
    print("\n".join([*page(found), where]))
    if options.quick:
        return
    found = _with_earlier(found)
    if options.update:
        aims = [aim for section in found.values() for aim in section.aims]
        update(options.update, "drift", "\n".join([*aim_lines(aims), "", where]))
        update(ROOT / "benchmarks/README.md", "drift", "\n".join([*page(found), where]))


def _with_earlier(found: dict[str, Section]) -> dict[str, Section]:
    """Keep *found*; return it with the other sections as they were found last."""
    path = ROOT / "benchmarks/results/drift.json"
    path.parent.mkdir(exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept |= {name: asdict(section) for name, section in found.items()}
    path.write_text(json.dumps(kept, indent=2, default=float) + "\n")
    return {name: Section.restored(kept[name]) for name in SECTIONS if name in kept}


def page(found: dict[str, Section]) -> Iterator[str]:
    """Yield all tables, each section's aims below its own."""
    for section in found.values():
        yield from (section.caption, "", *section.lines, "")
        if section.aims:
            yield from (*aim_lines(section.aims), "")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test: figures of no worth")
    parser.add_argument("--runs", type=int, default=FULL_RUNS, help="clean streams of each set")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--processes", type=int, default=2, help="side by side")
    parser.add_argument("--update", type=Path, metavar="FILE", help=SHORT)
    options = parser.parse_args()
    if unknown := [name for name in options.only.split(",") if name not in SECTIONS]:
        parser.error(f"--only must name sections of {', '.join(SECTIONS)}, got {unknown[0]!r}")
    return options


if __name__ == "__main__":
    main()
