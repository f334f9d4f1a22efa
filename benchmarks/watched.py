"""The product's default checks on one model, fed rows by the thousand: no server, the same code."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
from detectors import INPUT, train
from numpy.typing import NDArray
from traffic import Population, Rows

from scanflow_serve.runtime.checks import kinds
from scanflow_serve.runtime.checks.portfolio import Portfolio
from scanflow_serve.runtime.checks.rows import Answers, Observed, Reference, Setting
from scanflow_serve.runtime.checks.statistics.portfolio import standing
from scanflow_serve.runtime.checks.statistics.splits import honoured_run_length
from scanflow_serve.runtime.tensors import Signature, TensorSpec

RUN_LENGTH = 10_000  # rows; the product's default, for the whole model
LEAST_SHARE = 0.8  # of it, that the lower 95 % bound of the mean must reach
OUTPUT, VARIANT = "probabilities", "model"


class Watched:
    """Drift's portfolio, and class balance where there are classes, in one budget.

    Args:
        reference: Rows of normal times, shape (rows, features).
        ordered: They are in order of time.
        at: Time of each, Unix s; None: not known.
        balance: Whether class balance is checked beside it.
        strata: What rows are divided by, as a policy says.
        block: Rows that are bet on together.
        drift: Settings of the check, as a policy gives them.

    Attributes:
        rows: Live rows seen before the one at which it alarmed, or all.

    Raises:
        ValueError: The reference does not bear out what it promises.
    """

    def __init__(
        self,
        population: Population,
        reference: Rows,
        seed: int,
        *,
        ordered: bool = False,
        at: NDArray[np.float64] | None = None,
        balance: bool = True,
        strata: str = "",
        block: int = 0,
        **drift: Any,
    ) -> None:
        self._answer = population.answer
        answers = self.answers(reference)
        classes = 1 if answers.probabilities is None else answers.probabilities.shape[1]
        signature = Signature(
            (TensorSpec(INPUT, "float32", (None, reference.shape[1])),),
            (TensorSpec(OUTPUT, "float32", (None, classes)),),
        )
        setting = Setting(signature, seed=seed, strata=strata, block=block)
        self.checks: dict[str, Portfolio] = {
            "drift": kinds.drift(setting, **({"method": "pca"} | drift))
        }
        if balance and self._answer is not None:
            self.checks["balance"] = kinds.balance(setting)
        known = {} if self._answer is None else {VARIANT: answers}
        normal = Reference({INPUT: reference}, known, ordered=ordered, seed=seed, at=at)
        for check in self.checks.values():
            check.fit(normal)
        sizes = [check.calibration_rows for check in self.checks.values()]
        least = min((size for size in sizes if size), default=0)
        self.run_length = honoured_run_length(None, least).rows if least else RUN_LENGTH
        self.rows = 0

    def answers(self, rows: Rows) -> Answers:
        """Return what the model answers to *rows*."""
        if self._answer is None:
            return Answers({})
        found = self._answer(rows)
        return Answers({OUTPUT: found}, found, found.argmax(axis=1).astype(np.int64))

    def alarms(self, rows: Rows, at: NDArray[np.float64] | None = None) -> bool:
        """Show it *rows* at once; return whether it is in alarm, by any check or all together.

        Args:
            at: Time of each, Unix s; by default none has passed.
        """
        ids = [""] * len(rows)
        times = np.zeros(len(rows)) if at is None else at
        live = Observed(ids, {INPUT: rows}, self.answers(rows), VARIANT, times)
        weight = 1 / len(self.checks)
        log_wealth: dict[str, float] = {}
        alone = False
        for name, check in self.checks.items():
            check.observe(live)
            reading = check.result()
            assert reading.wealth is not None
            assert reading.peak is not None
            alone |= weight * reading.peak >= self.run_length
            log_wealth[name] = log(reading.wealth) if reading.wealth > 0 else -np.inf
        weights = dict.fromkeys(self.checks, weight)
        if alone or standing(log_wealth, weights, self.run_length).alarm:
            return True
        self.rows += len(rows)
        return False

    @property
    def caution(self) -> str:
        """Return why the checks say that their promise may not hold; "" if they do not."""
        said = [each for check in self.checks.values() for each in check.cautions]
        return next(iter(said), "")

    def cause(self) -> str:
        """Return the detector that has won most, as its evidence names it."""
        readings = {name: check.result().wealth or 0.0 for name, check in self.checks.items()}
        return self.checks[max(readings, key=lambda name: readings[name])].explain().detector


def armed(population: Population, reference_rows: int, seed: int, **settings: Any) -> Watched:
    """Return checks fitted to fresh rows; a reference that is refused (1 in 100) is drawn anew.

    What *settings* have as ``method`` is trained where it must be.
    """
    random = np.random.default_rng([seed, 7])
    for attempt in range(20):
        try:
            rows = population.draw(random, reference_rows)
            train(settings.get("method", "pca"), rows, seed * 100 + attempt)
            return Watched(population, rows, seed * 100 + attempt, **settings)
        except ValueError as error:
            refusal = error
    raise refusal
