"""Do windows of few rows find the shifts of "Failing Loudly"; the portfolio against each alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from detectors import INPUT, fitted
from image_shifts import shifts
from numpy.typing import NDArray
from parallel import Workers
from traffic import Population, Random, Rows, bundled

from scanflow_serve.runtime.checks.rows import Reference
from scanflow_serve.runtime.checks.scored import ANY, observed
from scanflow_serve.runtime.checks.statistics.bins import Bins
from scanflow_serve.runtime.checks.statistics.comparison import compare
from scanflow_serve.runtime.checks.statistics.mmd import MeanDiscrepancy

SIZES = (10, 20, 50, 100, 200, 500)
LEVEL = 0.05
TESTS = ("features, ks", "error, wasserstein", "error, ks", "softmax, ks", "classes, chi2")
MMD, CLASSIFIER = "latent, mmd", "domain classifier"  # dear: on fewer windows
PORTFOLIO = "portfolio of the first five, Bonferroni"
REFERENCE = 1000  # rows, 600 of them to train on
HELD = 600  # others, that windows are held against
DEAR_DRAWS = 1
CLEAN = 4  # windows for each draw of all shifts
# What no detector alone sees, at 100 rows.
TOLD = ("noise 1/255, 100%", "noise 100/255, 10%", "a class stays away, 100%")


@dataclass(frozen=True, slots=True)
class Power:
    """Share of windows found changed, by size in `SIZES`, and of clean ones taken for changed.

    Attributes:
        windows: Clean ones of each size.
        told: Share at 100 rows of each of `TOLD`.
    """

    test: str
    found: tuple[float, ...]
    false: tuple[float, ...]
    windows: int
    told: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """Windows of one size, of all shifts, against one reference.

    Attributes:
        method: Reconstructor.
        dear: Whether the dear tests are made, too.
    """

    split: int
    size: int
    number: int
    method: str
    dear: bool


class Tests:
    """The product's window statistics on one reference of digits, and a domain classifier."""

    def __init__(self, population: Population, split: int, method: str) -> None:
        assert population.answer is not None
        self._answer = population.answer
        self._error = fitted(method, reference(population, split), split)
        held = population.draw(np.random.default_rng([split, 30]), HELD)
        self._held = held
        self._bins = {name: Bins.fit(view) for name, view in self._views(held).items()}

    def _views(self, rows: Rows) -> dict[str, NDArray[np.float64]]:
        softmax = self._answer(rows)
        errors = self._error.score(observed(Reference({INPUT: rows}), ANY))[:, None]
        views = (rows, errors, errors, softmax, softmax.argmax(axis=1)[:, None])
        return {name: np.asarray(view, np.float64) for name, view in zip(TESTS, views, strict=True)}

    def p_values(self, rows: Rows, random: Random, dear: bool) -> dict[str, float]:
        """Return the p-value of each test, of the window *rows*."""
        found = {}
        for name, view in self._views(rows).items():
            bins = self._bins[name]
            found[name] = compare(bins, bins.counts(view), name.rpartition(" ")[2]).p
        both = {PORTFOLIO: min(1.0, len(found) * min(found.values()))}
        if not dear:
            return found | both
        return (
            found
            | {MMD: self._mmd(rows, random), CLASSIFIER: _told_apart(self._held, rows, random)}
            | both
        )

    def _mmd(self, rows: Rows, random: Random) -> float:
        held, live = (
            self._error.latent(observed(Reference({INPUT: each}), ANY))
            for each in (self._held, rows)
        )
        window = MeanDiscrepancy(held, len(rows), seed=int(random.integers(2**31)))
        window.add(live)
        return window.compare().p


def _told_apart(held: Rows, rows: Rows, random: Random) -> float:
    """Return whether a linear model tells *rows* from as many of *held*, trained on half of each.

    scikit-learn's: the product has no domain classifier at work on a device.
    """
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    others = held[random.permutation(len(held))[: len(rows)]]
    half = len(rows) // 2
    learn = np.concatenate([others[:half], rows[:half]])
    judge = np.concatenate([others[half:], rows[half:]])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    model.fit(learn, np.repeat([0, 1], half))
    right = int((model.predict(judge) == np.repeat([0, 1], len(judge) // 2)).sum())
    return float(binomtest(right, len(judge), 0.5, alternative="greater").pvalue)


def reference(population: Population, split: int) -> Rows:
    """Return the reference of *split*."""
    return population.draw(np.random.default_rng([split, 29]), REFERENCE)


Counts = dict[str, dict[str, bool]]  # found, by test, by shift; the clean windows under numbers


def drawn(job: Draw) -> Counts:
    """Return what each test finds in the windows of *job*."""
    digits = bundled("digits")
    tests = Tests(digits, job.split, job.method)
    random = np.random.default_rng([job.split, job.size, job.number, 31])
    found: Counts = {}
    for name, rows in _windows(digits, job.size, random):
        for test, p in tests.p_values(rows, random, job.dear).items():
            found.setdefault(test, {})[name] = p <= LEVEL
    return found


def _windows(digits: Population, size: int, random: Random) -> Iterator[tuple[str, Rows]]:
    for name, shift in shifts().items():
        yield name, shift(digits, random, size)
    for number in range(CLEAN):
        yield str(number), digits.draw(random, size)


def power(workers: Workers, splits: int, draws: int, method: str) -> list[Power]:
    """Return how often each test finds a shift of digits, and how often it cries on clean rows."""
    workers.map(trained, [(split, method) for split in range(splits)])  # before many need it
    jobs = [
        Draw(split, size, number, method, number < DEAR_DRAWS)
        for split in range(splits)
        for number in range(draws)
        for size in SIZES
    ]
    results = list(zip(jobs, workers.map(drawn, jobs), strict=True))
    return [_counted(test, results) for test in (*TESTS, MMD, CLASSIFIER, PORTFOLIO)]


def trained(job: tuple[int, str]) -> None:
    """Train the reconstructor of a split: (split, method)."""
    Tests(bundled("digits"), *job)


def _counted(test: str, results: list[tuple[Draw, Counts]]) -> Power:
    by_size = {
        size: [counts[test] for job, counts in results if job.size == size and test in counts]
        for size in SIZES
    }
    names = tuple(shifts())
    clean = tuple(map(str, range(CLEAN)))
    return Power(
        test,
        tuple(_share(by_size[size], names) for size in SIZES),
        tuple(_share(by_size[size], clean) for size in SIZES),
        len(by_size[SIZES[0]]) * CLEAN,
        tuple(_share(by_size[100], (name,)) for name in TOLD),
    )


def _share(windows: Sequence[Mapping[str, bool]], names: tuple[str, ...]) -> float:
    return float(np.mean([[each[name] for name in names] for each in windows]))
