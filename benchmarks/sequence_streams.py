"""Changes that no single row shows, of four sines: seen by windows, and by which how well."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from detectors import INPUT, fitted, train
from numpy.typing import NDArray
from parallel import Workers
from shifted_streams import LONGEST, Delay, Outcome, rows_until_alarm, summed
from traffic import Population, Random, Rows, sines
from watched import Watched

from scanflow_serve.runtime.checks.reconstruction import ReconstructionError
from scanflow_serve.runtime.checks.rows import Reference
from scanflow_serve.runtime.checks.scored import ANY, observed

STEPS = 32  # rows of a window
CALM = 20 * STEPS
JUDGED = 6400  # rows of each kind that windows are told apart on
CHANGES: dict[str, dict[str, Any]] = {
    "a tenth faster": {"faster": 1.1},
    "a third faster": {"faster": 1.3},
    "channels apart": {"apart": True},
}
ALONE: dict[str, Any] = {"members": []}
SEEN_BY: dict[str, dict[str, Any]] = {
    "ks": {"method": "ks"},
    "pca, rows": {"method": "pca"} | ALONE,
    "pca, windows": {"method": "pca", "steps": STEPS} | ALONE,
    "window_dense": {"method": "window_dense", "steps": STEPS} | ALONE,
    "lstm": {"method": "lstm", "steps": STEPS} | ALONE,
}
WINDOWED = tuple(name for name, given in SEEN_BY.items() if "steps" in given)


@dataclass(frozen=True, slots=True)
class Watching:
    """One method on one reference.

    Attributes:
        rows: Of the reference, in order of time.
        epochs: Of training, at most; None: as by default.
    """

    seen_by: str
    seed: int
    rows: int
    streams: int = 1
    epochs: int | None = None
    changes: tuple[str, ...] = tuple(CHANGES)

    @property
    def settings(self) -> dict[str, Any]:
        """Return those of the check."""
        epochs = {"epochs": self.epochs} if self.epochs and self.trained else {}
        return SEEN_BY[self.seen_by] | epochs

    @property
    def trained(self) -> bool:
        """Return whether it must be trained."""
        return self.seen_by in ("window_dense", "lstm")


@dataclass(frozen=True, slots=True)
class Seen:
    """What a method made of the changes.

    Attributes:
        outcomes: Of each stream, by change.
        auc: Chance that a changed window scores above a clean one, by change.
        window_us: Time to score a window of many at once, in µs.
    """

    outcomes: dict[str, list[Outcome]]
    auc: dict[str, float] = field(default_factory=dict)
    window_us: float = 0.0


def watch(job: Watching) -> Seen:
    """Return what *job* sees of each change."""
    random = np.random.default_rng([job.seed, 23])
    reference = sines(random, job.rows)
    given = {name: each for name, each in job.settings.items() if name in ("steps", "epochs")}
    train(str(job.settings["method"]), reference, job.seed, ordered=True, **given)
    outcomes = {
        change: [_outcome(job, reference, stream, change) for stream in range(job.streams)]
        for change in job.changes
    }
    if job.seen_by not in WINDOWED:
        return Seen(outcomes)
    score = fitted(str(job.settings["method"]), reference, job.seed, ordered=True, **given)
    clean, window_us = _scores(score, sines(random, JUDGED))
    auc = {
        change: _above(_scores(score, sines(random, JUDGED, **CHANGES[change]))[0], clean)
        for change in job.changes
    }
    return Seen(outcomes, auc, window_us)


def _outcome(job: Watching, reference: Rows, stream: int, change: str) -> Outcome:
    source = Population("sines", _sines, None, 4)
    watched = Watched(source, reference, job.seed, ordered=True, **job.settings)
    random = np.random.default_rng([job.seed, stream, 29])
    if watched.alarms(sines(random, CALM)):
        return Outcome(None)
    changed = sines(random, LONGEST, **CHANGES[change])
    return Outcome(rows_until_alarm(watched, changed), watched.cause())


def _sines(random: Random, count: int) -> Rows:
    return sines(random, count)


def _scores(score: ReconstructionError, rows: Rows) -> tuple[NDArray[np.float64], float]:
    """Return the errors of the windows that share no row, and the time a window took, in µs."""
    score.forget()
    start = time.perf_counter()
    seen = score.windows(observed(Reference({INPUT: rows}), ANY))
    window_us = (time.perf_counter() - start) / max(1, int(seen.whole.sum())) * 1e6
    return seen.scores[seen.apart], window_us


def _above(changed: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve."""
    larger = changed[:, None] > clean
    return float((larger + 0.5 * (changed[:, None] == clean)).mean())


@dataclass(frozen=True, slots=True)
class Windows:
    """How well a method tells changed windows apart, and what one costs."""

    seen_by: str
    auc: dict[str, float]
    window_us: float


def sequences(
    workers: Workers, references: int, streams: int, rows: int, epochs: int | None = None
) -> tuple[list[Delay], list[Windows]]:
    """Return the delay of each change by what looks at it, and how methods of windows compare."""
    methods = sorted(SEEN_BY, key=lambda name: name != "lstm")  # the longest training first
    jobs = [
        Watching(method, seed, rows, streams, epochs)
        for method in methods
        for seed in range(references)
    ]
    found = dict(zip(methods, _grouped(workers.map(watch, jobs), references), strict=True))
    delays = [
        summed(change, method, [each for seen in found[method] for each in seen.outcomes[change]])
        for change in CHANGES
        for method in SEEN_BY
    ]
    windows = [
        Windows(
            method,
            {c: float(np.mean([seen.auc[c] for seen in found[method]])) for c in CHANGES},
            float(np.median([seen.window_us for seen in found[method]])),
        )
        for method in WINDOWED
    ]
    return delays, windows


def _grouped(found: list[Seen], size: int) -> list[list[Seen]]:
    return [found[start : start + size] for start in range(0, len(found), size)]
