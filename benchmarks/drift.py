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
from dataclasses import asdict, dataclass
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

    clean: int = 200
    censored: int = quiet_streams.CENSORED
    dependent: int = 20
    references: int = 40
    trained: int = 8
    streams: int = 5
    sequence: tuple[int, int, int | None] = (1, 22_400, None)
    power: tuple[int, int] = (8, 6)
    splits: int = 60
    windows: int = 2000
    sizes: tuple[int, int] = (60, 32)
    method: str = TRAINED

    @property
    def caption(self) -> str:
        """Return it in words."""
        splits, draws = self.power
        return (
            f"{self.clean} clean streams of each set, {self.dependent} of each kind of dependent "
            f"ones, all ended at {self.censored:,} rows; {self.references} fresh references for "
            f"each change by PCA, {self.trained} trained ones with {self.streams} streams each; "
            f"{splits} splits with {draws} draws of each window; {self.splits} splits and "
            f"{self.windows:,} windows for the limits; {self.sizes[0]} and {self.sizes[1]} streams "
            "of each calibration size."
        )


FULL = Scale()
QUICK = Scale(1, 2000, 2, 2, 1, 1, (1, 5000, 1), (1, 1), 4, 300, (2, 0), STAND_IN)


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page: its tables, its aims, and its figures."""

    lines: list[str]
    aims: list[Aim]
    figures: Any


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
    return Section(list(tables.quiet_table(found)), aims, _plain(found.values()))


def dependent(workers: Workers, scale: Scale) -> Section:
    """Return what becomes of the promise where rows depend on one another."""
    found = dependent_streams.dependent(workers, scale.dependent, scale.censored)
    lines = list(tables.dependent_table(found))
    return Section(lines, tables.dependent_aims(found), _plain(found))


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
    return Section(lines, tables.delay_aims(found), _plain([*found, *spoiled]))


def sequences(workers: Workers, scale: Scale) -> Section:
    """Return the delays of what no marginal shows, and how windows compare."""
    references, rows, epochs = scale.sequence
    found, windows = sequence_streams.sequences(workers, references, scale.streams, rows, epochs)
    lines = [*tables.delay_table("four sines", found), "", *tables.sequence_table(windows)]
    return Section(lines, [], _plain([*found, *windows]))


def power(workers: Workers, scale: Scale) -> Section:
    """Return how often windows find a shift."""
    found = window_power.power(workers, *scale.power, scale.method)
    lines = [*tables.power_table(found), "", *tables.told_table(found)]
    return Section(lines, tables.power_aims(found), _plain(found))


def limits(workers: Workers, scale: Scale) -> Section:
    """Return how often clean rows and windows are flagged, and why both sides are looked at."""
    rates, sides = window_limits.splits(workers, scale.splits, STAND_IN)
    if scale.method != STAND_IN:  # errors of a network may fall where those of a PCA rise
        _, sides = window_limits.splits(workers, scale.trained, scale.method)
    found = [*rates, *window_limits.window_rates(scale.windows)]
    lines = [*tables.limit_table(found), "", *tables.side_table(sides)]
    return Section(lines, tables.limit_aims(found), _plain([*found, *sides]))


def sizes(workers: Workers, scale: Scale) -> Section:
    """Return what run length calibration sets honour."""
    found = calibration_sizes.sizes(workers, *scale.sizes)
    return Section(list(tables.size_table(found)), tables.size_aims(found), _plain(found))


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
    scale = QUICK if options.quick else FULL
    detectors.keep_in(ROOT / ".build/bench/drift")
    workers = Workers(options.processes)
    found: dict[str, Section] = {}
    for name in options.only.split(","):
        start = time.perf_counter()
        found[name] = SECTIONS[name](workers, scale)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    workers.close()
    if not options.quick:
        _keep({name: section.figures for name, section in found.items()})
    where = f"{machine()}; {time.strftime('%Y-%m-%d')}. {scale.caption}"
    whole = "\n".join([*page(found), where])
    print(whole)
    if options.update:
        aims = [aim for section in found.values() for aim in section.aims]
        update(options.update, "drift", "\n".join([*aim_lines(aims), "", where]))
        update(ROOT / "benchmarks/README.md", "drift", whole)


def _keep(figures: dict[str, Any]) -> None:
    """Write *figures* beside those of the other sections' latest runs."""
    path = ROOT / "benchmarks/results/drift.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | figures, indent=2, default=float) + "\n")


def page(found: dict[str, Section]) -> Iterator[str]:
    """Yield all tables, each section's aims below its own."""
    for section in found.values():
        yield from section.lines
        yield ""
        if section.aims:
            yield from aim_lines(section.aims)
            yield ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test: figures of no worth")
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {','.join(SECTIONS)}")
    parser.add_argument("--processes", type=int, default=2, help="side by side")
    parser.add_argument("--update", type=Path, metavar="FILE", help=SHORT)
    options = parser.parse_args()
    if unknown := [name for name in options.only.split(",") if name not in SECTIONS]:
        parser.error(f"--only must name sections of {', '.join(SECTIONS)}, got {unknown[0]!r}")
    return options


if __name__ == "__main__":
    main()
