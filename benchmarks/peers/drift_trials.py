"""The trials that every drift detector goes through, ours too; needs numpy alone.

Rows come from one npz file, written once: `<trial>/<part>` for the parts of `Rows`.
"""

import json
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SIZES = (50, 100, 500)  # rows of a window
POWER_SIZES = (100, 500)
LEVEL = 0.05


class Rows(NamedTuple):
    """Rows, shape (n, features); and of each, what a detector of one number is fed.

    `error` is a PCA's reconstruction error, `probabilities` are the model's.
    """

    values: Any
    error: Any
    probabilities: Any

    def part(self, start: int, end: int) -> "Rows":
        return Rows(*(each[start:end] for each in self))


class Trials:
    """The trials in a file: `clean`, `shift` and `power` are lists of what each says."""

    def __init__(self, path: Path) -> None:
        self._file = np.load(path)
        self.plan: dict[str, Any] = json.loads(str(self._file["plan"]))

    def rows(self, trial: str) -> Rows:
        return Rows(*(self._file[f"{trial}/{part}"] for part in Rows._fields))


def streaming(trials: Trials, make: Any, seconds: float, chunk: int = 1) -> dict[str, Any]:
    """Return false alarms of a detector of rows, and its delays.

    Args:
        make: Takes the reference, returns what has `alarms(rows) -> bool`.
        seconds: Of processor time; no new trial begins after them.
        chunk: Clean rows shown at once.
    """
    end = time.process_time() + seconds / 2
    alarms = rows = runs = 0
    spent = 0.0
    for clean in trials.plan["clean"]:
        if runs and time.process_time() > end:
            break
        reference, live = trials.rows(clean["reference"]), trials.rows(clean["live"])
        detector, runs = make(reference), runs + 1
        begun = time.process_time()
        for at in range(0, len(live.values), chunk):
            if detector.alarms(live.part(at, at + chunk)):
                alarms += 1
                detector = make(reference)
        spent += time.process_time() - begun
        rows += len(live.values)
    delays = _delays(trials, make, time.process_time() + seconds / 2, chunk)
    found = {"alarms": alarms, "rows": rows, "runs": runs, "row_us": spent / rows * 1e6}
    return {**found, "delays": delays}


def _delays(trials: Trials, make: Any, end: float, chunk: int) -> dict[str, list[float]]:
    """Return rows until the alarm by shift; -1 missed, -2 an alarm before the shift."""
    found: dict[str, list[float]] = {}
    for shift in trials.plan["shift"]:
        if time.process_time() > end and shift["name"] in found:
            continue
        detector = make(trials.rows(shift["reference"]))
        calm, live = trials.rows(shift["calm"]), trials.rows(shift["live"])
        early = _first(detector, calm, chunk)
        delay = -2.0 if early else float(_first(detector, live, 1))
        found.setdefault(shift["name"], []).append(delay or -1.0)
    return found


def _first(detector: Any, rows: Rows, chunk: int) -> int:
    """Return the number, from 1, of the row in whose chunk it alarms, 0 if in none."""
    for at in range(0, len(rows.values), chunk):
        if detector.alarms(rows.part(at, at + chunk)):
            return at + 1
    return 0


def windows(trials: Trials, make: Any, seconds: float) -> dict[str, Any]:
    """Return how often a test of windows flags clean ones, and changed ones.

    Args:
        make: Takes the reference, returns what has `flags(rows) -> bool`.
    """
    end = time.process_time() + seconds
    false: dict[str, list[int]] = {str(size): [0, 0] for size in SIZES}
    power: dict[str, list[int]] = {str(size): [0, 0] for size in POWER_SIZES}
    spent, tested = 0.0, 0
    for split in trials.plan["power"]:
        if tested and time.process_time() > end:
            break
        test = make(trials.rows(split["reference"]))
        mixed = [
            *((false[str(w["size"])], w) for w in split["clean"]),
            *((power[str(w["size"])], w) for w in split["changed"]),
        ]
        random.Random(0).shuffle(mixed)  # what is slow gets some of each
        for counts, trial in mixed:
            if counts[1] and time.process_time() > end:
                continue
            begun = time.process_time()
            counts[0] += bool(test.flags(trials.rows(trial["live"])))
            spent, tested = spent + time.process_time() - begun, tested + 1
            counts[1] += 1
    return {"false": false, "power": power, "window_ms": spent / tested * 1e3}


def run(path: str, methods: Any, seconds: float) -> dict[str, Any]:
    """Return what came of each of *methods*: name -> ("streaming" or "windows", make, chunk)."""
    trials = Trials(Path(path))
    found = {}
    for name, (kind, make, *chunk) in methods.items():
        trial = streaming if kind == "streaming" else windows
        found[name] = {"kind": kind, **trial(trials, make, seconds, *chunk)}
    return found
