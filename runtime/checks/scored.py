"""A score made a detector: its reference split, its rows ranked, bets against their being uniform.

This is what a `Score` plug-in inherits for nothing. A score of outputs is calibrated for each
variant, on what that variant answers to the same rows, and each live row is ranked among the
answers of the variant that gave it: a switch of variants is no drift.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from scanflow_serve.runtime.checks.blocks import BlockMeans, block_calibration, block_means
from scanflow_serve.runtime.checks.caution import caution
from scanflow_serve.runtime.checks.members import Ranked, under
from scanflow_serve.runtime.checks.protocol import Score
from scanflow_serve.runtime.checks.rows import Answers, Observed, Reference
from scanflow_serve.runtime.checks.sequences import SequenceScore, Windowed, stretches
from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.edetector import EDetector
from scanflow_serve.runtime.checks.statistics.promise import require_uniform
from scanflow_serve.runtime.checks.statistics.splits import BLOCKS, Splits, split_rows
from scanflow_serve.runtime.checks.statistics.strata import PARTS, StratifiedCalibration
from scanflow_serve.runtime.checks.strata import Strata, calibration, left_out
from scanflow_serve.runtime.tensors import Array

BLOCK_WINDOWS = 5  # a block of fewer would leave most of its rows to no window
ANY = ""  # the variant of scores of inputs: they are alike for all


@dataclass(slots=True)
class ScoreMember:
    """One score with its calibration sets and its e-detector.

    Attributes:
        name: As evidence tells it.
        strict: Rank for the luck of the calibration set, too; see `Calibration.strict_p_values`.
        strata: Rows are ranked among those of their own; None: among all.
        block: Rows whose mean rank is bet on together; 0: each row by itself.
        calibrations: By variant; `ANY` for a score of inputs. Empty until it is fitted.
        blocks: Likewise, of the means; empty without `block`.
        caution: Why run lengths won't hold; "" where nothing speaks against them.
        unranked: Live rows of variants that it is not calibrated for.
    """

    name: str
    score: Score
    seed: int = 0
    strict: bool = False
    strata: Strata | None = None
    block: int = 0
    calibrations: dict[str, StratifiedCalibration] = field(default_factory=dict)
    blocks: dict[str, Calibration] = field(default_factory=dict)
    detector: EDetector = field(default_factory=EDetector)
    caution: str = ""
    unranked: int = 0
    _means: BlockMeans = field(init=False)
    _rng: np.random.Generator = field(init=False)
    _drawn: int = 0

    def __post_init__(self) -> None:
        """Draw what breaks ties.

        Raises:
            ValueError: A score of windows is to be taken in blocks, or divided into strata.
        """
        if self.span > 1 and (self.block or self.strata):
            raise ValueError(
                f"{'block' if self.block else 'strata'} must come with a method that looks at "
                f"single rows, got {self.name!r}. Remove it, or choose another method."
            )
        self._means = BlockMeans(self.block or 1)
        self._rng = self._from(0)

    def _from(self, drawn: int) -> np.random.Generator:
        """Return what breaks ties after so many: a restart draws what would have come next."""
        bits = np.random.PCG64([self.seed, len(self.name)])
        return np.random.Generator(bits.advance(drawn))

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
        return (self.block or self.span) * min((each.rows for each in self._sets()), default=0)

    def fit(self, reference: Reference) -> None:
        """Fit the score to one part of *reference*, rank by another, hold it to the third.

        Raises:
            ValueError: There are too few rows, a score is no number, or the rows kept back are
                not flagged at the promised rate.
        """
        parts = self.parts(reference)
        if len(parts.fit):
            self.score.fit(reference.take(parts.fit))
        self.calibrations, self.blocks, self.caution = {}, {}, ""
        try:
            self._calibrate(reference, parts)
            if not self.calibrations:
                raise ValueError(
                    f"{self.name}: reference must have answers of a variant, got none. "
                    "Load one, or name `validation` rows."
                )
            self._verify(reference, parts)
        except ValueError as error:
            self.calibrations = {}
            raise ValueError(f"{error} {self.caution}".rstrip()) from None
        self.detector = self._detector()

    def add(self, reference: Reference) -> None:
        """Calibrate for the variants of *reference* that are not known yet; what is fitted stays.

        Raises:
            ValueError: As `fit`.
        """
        if not self.calibrations:
            self.fit(reference)
            return
        self._calibrate(reference, self.parts(reference))

    def rank(self, rows: Observed) -> Ranked | None:
        """Return the p-values of live *rows*, and bet on them; None if the variant is not known."""
        variant = rows.variant if self.of_outputs else ANY
        calibration = self.calibrations.get(variant)
        if calibration is None:
            self.unranked += rows.rows
            return None
        seen = self._windows(rows)
        strata = self._strata(rows)
        known = np.isfinite(seen.scores)
        bets = known & seen.apart & calibration.knows(strata, rows.rows)
        before = np.array([self.detector.log_wealth])
        if self.block:
            bets, after = self._bet_on_blocks(variant, seen.scores, rows, bets, strata)
        else:
            after = self._bet(calibration, seen.scores, rows, bets, strata)
        path = np.concatenate([before, after])[np.cumsum(bets)]
        return Ranked(_two_sided(calibration, seen, strata), path)

    def p_values(self, rows: Observed) -> Array | None:
        """Return the p-values of *rows* and change nothing; None if the variant is not known.

        Of scores of single rows; safe beside a thread that ranks.
        """
        calibration = self.calibrations.get(rows.variant if self.of_outputs else ANY)
        if calibration is None or self.span > 1:
            return None
        return _two_sided(calibration, self._windows(rows), self._strata(rows))

    def places(self, rows: Observed) -> Array | None:
        """Return the share of calibration rows that each row's score is above, NaN for no number.

        Of scores of single rows; None if the variant is not known.
        """
        calibration = self.calibrations.get(rows.variant if self.of_outputs else ANY)
        if calibration is None:
            return None
        scores, strata = self._windows(rows).scores, self._strata(rows)
        known = np.isfinite(scores)
        places = np.full(rows.rows, np.nan)
        among = None if strata is None else strata[known]
        places[known] = calibration.places(scores[known], among)
        return places

    def _sets(self) -> Iterable[Calibration | StratifiedCalibration]:
        """Return the calibration sets that bets rest on."""
        return self.blocks.values() if self.block else self.calibrations.values()

    def _calibrate(self, reference: Reference, parts: Splits) -> None:
        """Take the calibration sets of the variants that are not known yet."""
        part = reference.take(parts.calibrate)
        strata = None if self.strata is None else self.strata.of_reference(part)
        for variant, scores in self.scores(reference, parts.calibrate):
            if variant in self.calibrations:
                continue
            found = calibration(scores, strata, self.strata)
            places = found.places(scores, strata)
            spacing = 1.0 if reference.ordered else reference.rows / part.rows
            if self.block:
                places, spacing = block_means(places, self.block, part.run), float(self.block)
                self.blocks[variant] = block_calibration(places, self.block)
            self.calibrations[variant] = found
            self.caution = self.caution or left_out(found, strata)
            self.caution = self.caution or caution(
                self.name, places, block=self.block, spacing=spacing * self.span
            )

    def _verify(self, reference: Reference, parts: Splits) -> None:
        """Hold the rows kept back to the promised rates."""
        part = reference.take(parts.verify)
        strata = None if self.strata is None else self.strata.of_reference(part)
        rng = np.random.default_rng(reference.seed)
        for variant, scores in self.scores(reference, parts.verify):
            held = self.calibrations[variant]
            if not self.block:
                require_uniform(self.name, held.p_values(scores, strata, rng), held.rows)
                continue
            means = block_means(held.places(scores, strata), self.block, part.run)
            blocks = self.blocks[variant]
            require_uniform(self.name, blocks.p_values(means, rng), blocks.rows)

    def _strata(self, rows: Observed) -> Array | None:
        return None if self.strata is None else self.strata.of_rows(rows)

    def _windows(self, rows: Observed) -> Windowed:
        """Return the scores; of a score that looks at single rows, all are windows of one."""
        if isinstance(self.score, Sequential):
            return self.score.windows(rows)
        every = np.ones(rows.rows, np.bool_)
        return Windowed(self._scores(rows), every, every)

    def _scores(self, rows: Observed) -> Array:
        scores = np.asarray(self.score.score(rows), np.float64)
        if scores.shape != (rows.rows,):
            raise ValueError(
                f"{self.name}: score must be one number a row, of shape ({rows.rows},), got "
                f"shape {scores.shape}."
            )
        return scores

    def _bet(
        self,
        calibration: StratifiedCalibration,
        scores: Array,
        rows: Observed,
        on: Array,
        strata: Array | None,
    ) -> Array:
        """Bet on the rows that *on* marks; return log wealth after each of them."""
        if not on.any():
            return np.empty(0)
        every = bool(on.all())
        ids = rows.ids if every else [i for i, here in zip(rows.ids, on, strict=True) if here]
        at = rows.at if every else rows.at[on]
        among = None if strata is None else strata[on]
        if self.strict:
            high, low = calibration.strict_p_values(scores[on], among)
            return self.detector.update(high, ids, at, low=low)
        self._drawn += len(ids)
        return self.detector.update(calibration.p_values(scores[on], among, self._rng), ids, at)

    def _bet_on_blocks(
        self, variant: str, scores: Array, rows: Observed, on: Array, strata: Array | None
    ) -> tuple[Array, Array]:
        """Bet on the blocks that rows complete; return which rows do, and log wealth after each."""
        places = self.calibrations[variant].places(
            scores[on], None if strata is None else strata[on]
        )
        means, ends = self._means.add(rows.session, places)
        last = np.zeros(rows.rows, np.bool_)
        last[np.flatnonzero(on)[ends]] = True
        whole = StratifiedCalibration({}, self.blocks[variant])
        every = np.zeros(rows.rows)
        every[last] = means
        return last, self._bet(whole, every, rows, last, None)

    def parts(self, reference: Reference) -> Splits:
        """Return the three parts; a score that learns nothing leaves its own to calibrate on."""
        # Each stretch of an ordered reference is to hold some windows, or whole blocks.
        block = max(BLOCK_WINDOWS * self.span, reference.rows // BLOCKS) if self.span > 1 else None
        if self.block:
            block = self.block * max(1, reference.rows // BLOCKS // self.block)
            if not reference.ordered:
                raise ValueError(
                    f"block: reference must be in order of time to be taken in blocks of "
                    f"{self.block}, got it in none. Say ordered: true if it is."
                )
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
            return self._scores(observed(part, variant))
        found = []
        for number, stretch in enumerate(stretches(part.run, part.rows)):
            rows = part.take(np.arange(part.rows)[stretch])
            seen = self.score.windows(observed(rows, variant, session=str(number)))
            found.append(seen.scores[seen.apart])
        self.score.forget()
        return np.concatenate(found)

    def _detector(self) -> EDetector:
        floor = min(each.floor for each in self._sets())
        return EDetector(floor=floor, rows_per_bet=self.block or self.span)

    def moved(self) -> tuple[Mapping[str, Any], ...]:
        """Return what the score itself can tell of features, nothing where it can't."""
        tell = getattr(self.score, "moved", None)
        return () if tell is None else tuple(tell())

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        parts = {f"score/{name}": array for name, array in self.score.state().items()}
        parts |= {f"detector/{name}": array for name, array in self.detector.state().items()}
        parts["caution"] = np.array(self.caution, dtype=np.str_)
        parts["drawn"] = np.array(self._drawn)
        for variant, held in self.calibrations.items():
            for name, array in held.state().items():
                parts[f"calibration/{name}/{variant}"] = array
        for variant, means in self.blocks.items():
            parts[f"blocks/{variant}"] = means.scores
        if self.block:
            parts |= {f"open/{name}": array for name, array in self._means.state().items()}
        return parts

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self.score.restore(under(state, "score"))
        self.caution = str(state["caution"])
        kept = under(state, "calibration")
        self.calibrations = {
            variant: StratifiedCalibration.restore(
                {name: kept[f"{name}/{variant}"] for name in PARTS}
            )
            for variant in under(kept, "rest")
        }
        self.blocks = {
            variant: Calibration.fit(means) for variant, means in under(state, "blocks").items()
        }
        if self.block:
            self._means.restore(under(state, "open"))
        self.detector = self._detector()
        self.detector.restore(under(state, "detector"))
        self._drawn = int(state["drawn"])
        self._rng = self._from(self._drawn)


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
        at=np.zeros(reference.rows) if reference.at is None else reference.at,
        session=session,
    )


def _two_sided(held: StratifiedCalibration, seen: Windowed, strata: Array | None) -> Array:
    known = np.isfinite(seen.scores)
    p = np.where(seen.whole, 2 * held.floor, 1.0)  # no number is the oddest of all
    among = None if strata is None else strata[known]
    p[known] = held.two_sided_p_values(seen.scores[known], among)
    p[~held.knows(strata, len(p))] = 1.0  # of a kind that nobody has seen enough of
    return p
