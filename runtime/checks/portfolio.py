"""A check of several detectors on the same rows: no single one sees every shift.

Their wealths are averaged by weight, which keeps the promise of the run length whatever their
dependence; what each contributes names the cause of an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import ClassVar

import numpy as np

from scanflow_serve.runtime.checks.explanations import Explainer, Explanation, explainer
from scanflow_serve.runtime.checks.images import image_shape
from scanflow_serve.runtime.checks.members import Stake, under
from scanflow_serve.runtime.checks.movement import KEPT_ROWS, SHOWN, Movement
from scanflow_serve.runtime.checks.occlusion import typical_row
from scanflow_serve.runtime.checks.protocol import (
    Cost,
    Evidence,
    Family,
    Need,
    Reading,
    Verdicts,
)
from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting
from scanflow_serve.runtime.checks.statistics.promise import ALPHA
from scanflow_serve.runtime.checks.statistics.shiryaev_roberts import MOST
from scanflow_serve.runtime.tensors import Array, Tensors

TYPICAL_ROWS = 5000  # of a reference, whose medians stand for a normal row
LEAST_ROWS = 20  # of a histogram
RATE_ROWS = 200  # the flagged share is that of about the last so many rows
_NEEDS: tuple[tuple[Need, bool], ...] = (("inputs", False), ("outputs", True))


class Portfolio:
    """A check of one or more detectors.

    Args:
        stakes: Weights sum to 1. The first whose rows it ranks gives the verdicts on rows.
        family: ``anomaly`` flags rows and does not bet; others do both.
        alpha: Share of rows that are flagged in normal times.
    """

    cost: ClassVar[Cost] = "worker"
    extra: ClassVar[str | None] = None
    mergeable: ClassVar[bool] = True

    def __init__(
        self, setting: Setting, stakes: Sequence[Stake], family: Family, alpha: float = ALPHA
    ) -> None:
        self.family: Family = family
        self.stakes = tuple(stakes)
        self.alpha = alpha
        self._setting = setting
        self._movement: Movement | None = None
        self._explainer: Explainer | None = None
        self._peak = -np.inf
        self._last_p: float | None = None
        self._flagged_share = 0.0
        self.rows = 0

    @property
    def needs(self) -> frozenset[Need]:
        """Return what its members look at."""
        looks = {stake.member.of_outputs for stake in self.stakes}
        return frozenset(need for need, on in _NEEDS if on in looks)

    @property
    def calibration_rows(self) -> int:
        """Return the rows of the smallest calibration set; 0 while none is fitted."""
        ready = [s.member.calibration_rows for s in self.stakes if s.member.ready]
        return min((rows for rows in ready if rows), default=0)

    def fit(self, reference: Reference) -> None:
        """Learn normal times of what looks at inputs; and of the others where answers are known.

        Raises:
            ValueError: A member refuses the reference.
        """
        names = self._setting.inputs or tuple(reference.inputs)
        self._movement = Movement(names, reference.inputs)
        self._explain_from(typical_row({k: v[:TYPICAL_ROWS] for k, v in reference.inputs.items()}))
        for stake in self.stakes:
            if not stake.member.of_outputs or reference.answers:
                stake.member.fit(reference)

    def fit_answers(self, reference: Reference) -> None:
        """Learn what the variants of *reference* answer in normal times; known ones stay.

        Raises:
            ValueError: A member refuses the reference.
        """
        if self._movement is None:
            self._movement = Movement(
                self._setting.inputs or tuple(reference.inputs), reference.inputs
            )
        for stake in self.stakes:
            if stake.member.of_outputs:
                stake.member.add(reference)

    def observe(self, rows: Observed) -> Verdicts | None:
        """Bet on each row; return the first member's p-values and flags."""
        total = np.full(rows.rows, -np.inf)
        verdicts: Verdicts | None = None
        for stake in self.stakes:
            ranked = stake.member.rank(rows) if stake.member.ready else None
            if ranked is None:
                total = np.logaddexp(total, stake.log_wealth)
            else:
                total = np.logaddexp(total, log(stake.weight) + ranked.path)
            if verdicts is None and ranked is not None and ranked.p is not None:
                verdicts = Verdicts(ranked.p, ranked.p <= self.alpha)
        if verdicts is not None and self._explainer is not None:
            self._explainer.note(rows, verdicts.flagged)
        self._peak = max(self._peak, float(total.max(initial=-np.inf)))
        self.rows += rows.rows
        if self._movement is not None:
            self._movement.observe(rows.inputs)
        if verdicts is not None and verdicts.p_val is not None and rows.rows:
            self._last_p = float(verdicts.p_val[-1])
            kept = (1 - 1 / RATE_ROWS) ** rows.rows
            self._flagged_share *= kept
            self._flagged_share += (1 - kept) * float(verdicts.flagged.mean())
        return verdicts

    def p_values(self, rows: Observed) -> Array | None:
        """Return the first member's p-values of *rows* and change nothing; None if it has none.

        Safe beside the thread that observes.
        """
        judge = getattr(self.stakes[0].member, "p_values", None)
        return None if judge is None else judge(rows)

    def result(self) -> Reading:
        """Return the wealth, and of ``anomaly`` the share of rows flagged of late."""
        waiting = [s.member.name for s in self.stakes if not s.member.ready]
        why = f"{', '.join(waiting)}: awaits a reference of answers" if waiting else ""
        if self.family == "anomaly":
            return Reading(self._flagged_share, p_val=self._last_p, why=why)
        wealth, peak = self._wealth(), exp(min(self._peak, MOST))
        self._peak = -np.inf
        return Reading(wealth, wealth, max(wealth, peak), p_val=self._last_p, why=why)

    def explain(self) -> Evidence:
        """Return what moved: the member that won most, since when, its rows, and the features."""
        ready = [stake for stake in self.stakes if stake.member.ready]
        best = max(ready, key=lambda stake: stake.log_wealth).member
        since = best.detector.rows - (best.detector.change_point or 0)
        rows = min(KEPT_ROWS, max(LEAST_ROWS, since))
        features = () if self._movement is None else self._movement.moved(rows)
        moved = (*best.moved(), *features)  # an error spreads over features that are as ever
        return Evidence(
            detector=best.name,
            since=best.detector.since,
            since_at=best.detector.since_at,
            rows=best.detector.telling,
            features=tuple(sorted(moved, key=lambda each: -each["moved"])[:SHOWN]),
            figures={
                f"share_{stake.member.name}": round(exp(stake.log_wealth - self._log_wealth()), 4)
                for stake in self.stakes
                if stake.member.ready and self._log_wealth() > -np.inf
            }
            | self._figures(),
        )

    def _figures(self) -> dict[str, float]:
        """Return what members can tell in figures beside their share."""
        ready = (stake.member for stake in self.stakes if stake.member.ready)
        tell = (getattr(member, "figures", None) for member in ready)
        told = (each() for each in tell if each is not None)
        return {name: value for figures in told for name, value in figures.items()}

    @property
    def cautions(self) -> tuple[str, ...]:
        """Return why the promised run length won't hold, as far as the reference tells."""
        if self.family == "anomaly":
            return ()  # it promises none
        said = (getattr(stake.member, "caution", "") for stake in self.stakes)
        return tuple(each for each in said if each)

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        """Return which values made the scores of the latest flagged rows, newest first."""
        return () if self._explainer is None else self._explainer.latest

    def _explain_from(self, typical: Tensors) -> None:
        """Explain by the score that flags rows, where that is one of inputs."""
        score = getattr(self.stakes[0].member, "score", None)
        told = self._setting.images
        found = {s.name: image_shape(s, told.get(s.name)) for s in self._setting.signature.inputs}
        images = {name: shape for name, shape in found.items() if shape is not None}
        self._explainer = None if score is None else explainer(score, typical, images)

    def acknowledge(self) -> None:
        """Go on from nothing."""
        self._peak = -np.inf
        for stake in self.stakes:
            if stake.member.ready:
                stake.member.detector.acknowledge()

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        parts: dict[str, Array] = {
            "rows": np.array(self.rows),
            "flagged_share": np.array(self._flagged_share),
            "last_p": np.array(np.nan if self._last_p is None else self._last_p),
        }
        for number, stake in enumerate(self.stakes):
            if stake.member.ready:
                kept = stake.member.state()
                parts |= {f"{number}/{name}": array for name, array in kept.items()}
        if self._explainer is not None:
            for name, row in self._explainer.typical.items():  # files hold no objects
                parts[f"typical/{name}"] = row.astype(np.str_) if row.dtype == object else row
        if self._movement is not None:
            parts |= {f"movement/{k}": array for k, array in self._movement.state().items()}
        return parts

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self.rows = int(state["rows"])
        self._flagged_share = float(state["flagged_share"])
        last_p = float(state["last_p"])
        self._last_p = None if np.isnan(last_p) else last_p
        for number, stake in enumerate(self.stakes):
            if kept := under(state, str(number)):
                stake.member.restore(kept)
        if typical := under(state, "typical"):
            texts = {
                name: row.astype(object) for name, row in typical.items() if row.dtype.kind == "U"
            }
            self._explain_from(typical | texts)
        if kept := under(state, "movement"):
            self._movement = Movement.restored(kept)

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Count the replicas' wealth in; on a copy that is read and thrown away."""
        for number, stake in enumerate(self.stakes):
            kept = [under(under(other, str(number)), "detector") for other in others]
            if stake.member.ready:
                stake.member.detector.merge([each for each in kept if each])

    def _log_wealth(self) -> float:
        return float(np.logaddexp.reduce([stake.log_wealth for stake in self.stakes]))

    def _wealth(self) -> float:
        return exp(min(self._log_wealth(), MOST))
