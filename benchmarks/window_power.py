"""Windows and limits: do they find shifts, and do they cry as rarely as they say?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from traffic import Population, Random, Rows, bundled, mixed, moved, noisy, turned
from watched import INPUT

from scanflow_serve.runtime.checks.reconstruction import PcaError
from scanflow_serve.runtime.checks.rows import Reference, Setting
from scanflow_serve.runtime.checks.scored import ANY, observed
from scanflow_serve.runtime.checks.statistics.bins import Bins
from scanflow_serve.runtime.checks.statistics.comparison import compare
from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.distances import DISTANCES
from scanflow_serve.runtime.tensors import Signature, TensorSpec

SIZES = (10, 20, 50, 100, 200, 500)
LEVEL = 0.05
TESTS = ("features, ks", "error, wasserstein", "error, ks", "softmax, ks", "classes, chi2")
PORTFOLIO = "portfolio of these, Bonferroni"
WINDOWS = (50, 100, 200, 500, 1000)
CLEAN = 4  # windows for each draw of all shifts
CALIBRATED, JUDGED = 600, 600  # rows


def shifts() -> dict[str, Callable[[Rows, Random], Rows]]:
    """Return the shifts, each on 10, 50 and 100 % of the rows, by name."""
    whole: dict[str, Callable[[Rows, Random], Rows]] = {
        "noise 1/255": lambda rows, random: noisy(rows, random, 1 / 255),
        "noise 10/255": lambda rows, random: noisy(rows, random, 10 / 255),
        "noise 100/255": lambda rows, random: noisy(rows, random, 100 / 255),
        "turned 10": lambda rows, _: turned(rows, 10),
        "turned 40": lambda rows, _: turned(rows, 40),
        "turned 90": lambda rows, _: turned(rows, 90),
        "moved 2 pixels": lambda rows, _: moved(rows, 2),
    }
    return {
        f"{name}, {share:.0%}": _partly(shift, share)
        for name, shift in whole.items()
        for share in (0.1, 0.5, 1.0)
    }


def _partly(shift: Callable[[Rows, Random], Rows], share: float) -> Callable[[Rows, Random], Rows]:
    return lambda rows, random: mixed(rows, shift(rows, random), random, share)


@dataclass(frozen=True, slots=True)
class Power:
    """Share of windows found changed, by size in `SIZES`, and of clean ones taken for changed."""

    test: str
    found: tuple[float, ...]
    false: tuple[float, ...]


class Tests:
    """The product's window statistics on one reference."""

    def __init__(self, population: Population, reference: Rows, seed: int) -> None:
        assert population.answer is not None
        self._answer = population.answer
        half = len(reference) // 2
        self._error = _fitted(reference[:half], seed)
        self._bins = {name: Bins.fit(view) for name, view in self._views(reference[half:]).items()}

    def _views(self, rows: Rows) -> dict[str, NDArray[np.float64]]:
        softmax = self._answer(rows)
        errors = self._error.score(observed(Reference({INPUT: rows}), ANY))[:, None]
        views = (rows, errors, errors, softmax, softmax.argmax(axis=1)[:, None])
        return {name: np.asarray(view, np.float64) for name, view in zip(TESTS, views, strict=True)}

    def p_values(self, rows: Rows) -> dict[str, float]:
        """Return the p-value of each test, of the window *rows*."""
        found = {}
        for name, view in self._views(rows).items():
            bins = self._bins[name]
            found[name] = compare(bins, bins.counts(view), name.rpartition(" ")[2]).p
        return found | {PORTFOLIO: min(1.0, len(found) * min(found.values()))}


def power(splits: int, draws: int) -> list[Power]:
    """Return how often each test finds a shift of digits, and how often it cries on clean rows."""
    digits, changes = bundled("digits"), shifts()
    names = (*TESTS, PORTFOLIO)
    found = {name: np.zeros(len(SIZES)) for name in names}
    false = {name: np.zeros(len(SIZES)) for name in names}
    for split in range(splits):
        random = np.random.default_rng([split, 29])
        tests = Tests(digits, digits.draw(random, 1200), split)
        for place, size in enumerate(SIZES):
            for _ in range(draws):
                for shift in changes.values():
                    _count(found, place, tests.p_values(shift(digits.draw(random, size), random)))
                for _ in range(CLEAN):
                    _count(false, place, tests.p_values(digits.draw(random, size)))
    windows = splits * draws
    return [
        Power(
            name,
            tuple(found[name] / windows / len(changes)),
            tuple(false[name] / windows / CLEAN),
        )
        for name in names
    ]


def _count(counts: dict[str, NDArray[np.float64]], place: int, p_values: dict[str, float]) -> None:
    for name, p in p_values.items():
        counts[name][place] += p <= LEVEL


@dataclass(frozen=True, slots=True)
class Rate:
    """Share of clean rows or windows flagged, and between which shares it should lie."""

    name: str
    rate: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        """Return whether it does."""
        return self.low <= self.rate <= self.high


def outlier_rates(splits: int) -> list[Rate]:
    """Return the share of clean digits flagged at 5 % and 1 %, the mean over fresh splits."""
    digits = bundled("digits")
    flagged: dict[float, list[float]] = {0.05: [], 0.01: []}
    for split in range(splits):
        random = np.random.default_rng([split, 31])
        score = _fitted(digits.draw(random, 1200), split)
        rows = [digits.draw(random, count) for count in (CALIBRATED, JUDGED)]
        held, live = (score.score(observed(Reference({INPUT: each}), ANY)) for each in rows)
        p = Calibration.fit(held).two_sided_p_values(live)
        for alpha, rates in flagged.items():
            rates.append(float((p <= alpha).mean()))
    return [
        Rate(f"rows flagged at {alpha:.0%}", float(np.mean(rates)), *_within(alpha))
        for alpha, rates in flagged.items()
    ]


def _within(alpha: float) -> tuple[float, float]:
    """Return two standard errors around *alpha*, of one split's beta-binomial."""
    n, m = CALIBRATED, JUDGED
    error = sqrt(alpha * (1 - alpha) / m * (1 + (m - 1) / (n + 2)))
    return alpha - 2 * error, alpha + 2 * error


def window_rates(repeats: int) -> list[Rate]:
    """Return the share of clean windows of normal values with p <= 5 %, each a feature."""
    random = np.random.default_rng(37)
    bins = Bins.fit(random.normal(size=(1000, repeats)))
    found = []
    for rows in WINDOWS:
        after = bins.counts(random.normal(size=(rows, repeats)))
        for method, distance in DISTANCES.items():
            p = distance(bins.before, after, bins.centres).p
            found.append(
                Rate(f"{method}, windows of {rows}", float((p <= LEVEL).mean()), 0.03, 0.07)
            )
    return found


def _fitted(rows: Rows, seed: int) -> PcaError:
    signature = Signature((TensorSpec(INPUT, "float32", (None, rows.shape[1])),), ())
    score = PcaError(Setting(signature, seed=seed))
    score.fit(Reference({INPUT: rows}, seed=seed))
    return score
