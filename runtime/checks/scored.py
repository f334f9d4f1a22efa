"""A score made a detector: its reference split, its rows ranked, bets against their being uniform.

This is what a `Score` plug-in inherits for nothing. A score of outputs is calibrated for each
variant, on what that variant answers to the same rows, and each live row is ranked among the
answers of the variant that gave it: a switch of variants is no drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from scanflow_serve.runtime.checks.members import Ranked, under
from scanflow_serve.runtime.checks.protocol import Score
from scanflow_serve.runtime.checks.rows import Answers, Observed, Reference
from scanflow_serve.runtime.checks.sequences import SequenceScore, Windowed, stretches
from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.edetector import EDetector
from scanflow_serve.runtime.checks.statistics.promise import require_rate
from scanflow_serve.runtime.checks.statistics.splits import BLOCKS, Splits, split_rows
from scanflow_serve.runtime.tensors import Array

BLOCK_WINDOWS = 5  # a block of fewer would leave most of its rows to no window
ANY = ""  # the variant of scores of inputs: they are alike for all


@dataclass(slots=True)
class ScoreMember:
    """One score with its calibration sets and its e-detector.

    Attributes:
        name: As evidence tells it.
        strict: Rank for the luck of the calibration set, too; see `Calibration.strict_p_values`.
        calibrations: By variant; `ANY` for a score of inputs. Empty until it is fitted.
        unranked: Live rows of variants that it is not calibrated for.
    """

    name: str
    score: Score
    seed: int = 0
    strict: bool = False
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    detector: EDetector = field(default_factory=EDetector)
    unranked: int = 0
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        """Draw what breaks ties."""
        self._rng = np.random.default_rng([self.seed, len(self.name)])

    @property
    def span(self) -> int:
        """Return how many rows one score looks at; see `SequenceScore`."""
        return int(getattr(self.score, "span", 1))

    @property
    def of_outputs(self) -> bool:
        """Return whether it looks at what the model answered."""
        return "outputs" in self.score.needs

    @property
    def ready(self) -> bool:
        """Return whether it can rank rows."""
        return bool(self.calibrations)

    @property
    def calibration_rows(self) -> int:
        """Return the rows that its smallest calibration set spans; 0 until it is fitted."""
        return self.span * min((each.rows for each in self.calibrations.values()), default=0)

    def fit(self, reference: Reference) -> None:
        """Fit the score to one part of *reference*, rank by another, hold it to the third.

        Raises:
            ValueError: There are too few rows, a score is no number, or the rows kept back are
                not flagged at the promised rate.
        """
        parts = self.parts(reference)
        if len(parts.fit):
            self.score.fit(reference.take(parts.fit))
        found: dict[str, Calibration] = {}
        for variant, scores in self.scores(reference, parts.calibrate):
            found[variant] = Calibration.fit(scores)
        if not found:
            raise ValueError(
                f"{self.name}: reference must have answers of a variant, got none. "
                "Load one, or name `validation` rows."
            )
        for variant, scores in self.scores(reference, parts.verify):
            require_rate(self.name, found[variant], scores, seed=reference.seed)
        self.calibrations = found
        self.detector = self._detector()

    def add(self, reference: Reference) -> None:
        """Calibrate for the variants of *reference* that are not known yet; what is fitted stays.

        Raises:
            ValueError: As `fit`.
        """
        if not self.calibrations:
            self.fit(reference)
            return
        parts = self.parts(reference)
        for variant, scores in self.scores(reference, parts.calibrate):
            if variant not in self.calibrations:
                self.calibrations[variant] = Calibration.fit(scores)

    def rank(self, rows: Observed) -> Ranked | None:
        """Return the p-values of live *rows*, and bet on them; None if the variant is not known."""
        calibration = self.calibrations.get(rows.variant if self.of_outputs else ANY)
        if calibration is None:
            self.unranked += rows.rows
            return None
        seen = self._windows(rows)
        known = np.isfinite(seen.scores)
        p = np.where(seen.whole, 2 * calibration.floor, 1.0)  # no number is the oddest of all
        p[known] = calibration.two_sided_p_values(seen.scores[known])
        bets = known & seen.apart
        before = np.array([self.detector.log_wealth])
        after = self._bet(calibration, seen.scores, rows, bets)
        path = np.concatenate([before, after])[np.cumsum(bets)]
        return Ranked(p, path)

    def _windows(self, rows: Observed) -> Windowed:
        """Return the scores; of a score that looks at single rows, all are windows of one."""
        if isinstance(self.score, Sequential):
            return self.score.windows(rows)
        every = np.ones(rows.rows, np.bool_)
        return Windowed(np.asarray(self.score.score(rows), np.float64), every, every)

    def _bet(self, calibration: Calibration, scores: Array, rows: Observed, on: Array) -> Array:
        """Bet on the rows that *on* marks; return log wealth after each of them."""
        if not on.any():
            return np.empty(0)
        every = bool(on.all())
        ids = rows.ids if every else [i for i, here in zip(rows.ids, on, strict=True) if here]
        at = rows.at if every else rows.at[on]
        if self.strict:
            high, low = calibration.strict_p_values(scores[on])
            return self.detector.update(high, ids, at, low=low)
        return self.detector.update(calibration.p_values(scores[on], self._rng), ids, at)

    def parts(self, reference: Reference) -> Splits:
        """Return the three parts; a score that learns nothing leaves its own to calibrate on."""
        # Each block of an ordered reference is to hold some windows.
        block = max(BLOCK_WINDOWS * self.span, reference.rows // BLOCKS) if self.span > 1 else None
        parts = split_rows(
            reference.rows, seed=reference.seed, ordered=reference.ordered, block=block
        )
        if getattr(self.score, "learns", True):
            return parts
        nothing = parts.fit[:0]
        return Splits(nothing, np.sort(np.concatenate([parts.fit, parts.calibrate])), parts.verify)

    def scores(self, reference: Reference, index: Array) -> Iterator[tuple[str, Array]]:
        """Yield the scores of the rows at *index* for each variant, once for a score of inputs."""
        part = reference.take(index)
        if not self.of_outputs:
            yield ANY, self._held_out(part, next(iter(part.answers), ANY))
            return
        for variant in part.answers:
            yield variant, self._held_out(part, variant)

    def _held_out(self, part: Reference, variant: str) -> Array:
        """Return the scores to calibrate with: of windows, those that share no row."""
        if not isinstance(self.score, Sequential):
            return self.score.score(observed(part, variant))
        found = []
        for number, stretch in enumerate(stretches(part.run, part.rows)):
            rows = part.take(np.arange(part.rows)[stretch])
            seen = self.score.windows(observed(rows, variant, session=str(number)))
            found.append(seen.scores[seen.apart])
        self.score.forget()
        return np.concatenate(found)

    def _detector(self) -> EDetector:
        floor = min(each.floor for each in self.calibrations.values())
        return EDetector(floor=floor, rows_per_bet=self.span)

    def moved(self) -> tuple[Mapping[str, Any], ...]:
        """Return what the score itself can tell of features, nothing where it can't."""
        tell = getattr(self.score, "moved", None)
        return () if tell is None else tuple(tell())

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        parts = {f"score/{name}": array for name, array in self.score.state().items()}
        parts |= {f"detector/{name}": array for name, array in self.detector.state().items()}
        for variant, calibration in self.calibrations.items():
            parts[f"calibration/{variant}"] = calibration.scores
        return parts

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self.score.restore(under(state, "score"))
        self.calibrations = {
            variant: Calibration.fit(scores)
            for variant, scores in under(state, "calibration").items()
        }
        self.detector = self._detector()
        self.detector.restore(under(state, "detector"))


@runtime_checkable
class Sequential(SequenceScore, Protocol):
    """`SequenceScore`, told apart from a score of single rows as the host runs."""


def observed(reference: Reference, variant: str, session: str = "") -> Observed:
    """Return reference rows as if they were live, answered by *variant* if it is known."""
    return Observed(
        ids=[""] * reference.rows,
        inputs=reference.inputs,
        answers=reference.answers.get(variant, Answers({})),
        variant=variant,
        at=np.zeros(reference.rows),
        session=session,
    )
