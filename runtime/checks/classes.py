"""The classes that a model answers, as a member of a portfolio: `ClassBalance` per variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.caution import caution
from scanflow_serve.runtime.checks.members import Ranked, under
from scanflow_serve.runtime.checks.rows import Observed, Reference
from scanflow_serve.runtime.checks.statistics.balance import ClassBalance
from scanflow_serve.runtime.tensors import Array


class ClassMember:
    """Bets that the shares of the classes have changed, against each variant's own shares.

    Args:
        classes: Class names in output order, for evidence; None: their numbers.
    """

    name = "classes"
    of_outputs = True
    calibration_rows = 0  # ranks nothing: the expected shares learn from live rows, too

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self._names = classes
        self._counts: dict[str, Array] = {}
        self._variant = ""
        self._balance: ClassBalance | None = None
        self.unranked = 0
        self.caution = ""

    @property
    def ready(self) -> bool:
        """Return whether it knows what to expect of a variant."""
        return self._balance is not None

    @property
    def detector(self) -> ClassBalance:
        """Return what has bet.

        Raises:
            ValueError: It is not fitted.
        """
        if self._balance is None:
            raise ValueError("classes: must be fitted before it bets.")
        return self._balance

    def fit(self, reference: Reference) -> None:
        """Count the classes that each variant answers to *reference*.

        Raises:
            ValueError: No variant answers with classes.
        """
        self._counts, self._balance, self.caution = {}, None, ""
        self.add(reference)

    def add(self, reference: Reference) -> None:
        """Count the classes of variants that are not known yet; what was bet stays.

        Raises:
            ValueError: As `fit`.
        """
        for variant, answers in reference.answers.items():
            if answers.predicted is None or variant in self._counts:
                continue
            columns = 0 if answers.probabilities is None else answers.probabilities.shape[1]
            width = max(columns, int(answers.predicted.max()) + 1, len(self._names or ()))
            self._counts[variant] = np.bincount(answers.predicted, minlength=width)
            commonest = answers.predicted == self._counts[variant].argmax()
            self.caution = self.caution or caution(self.name, commonest.astype(np.float64))
        if not self._counts:
            raise ValueError(
                "classes: the run must answer with classes, got none. "
                "Name the model's `output:`, or remove this check."
            )
        self._rebuild()

    def rank(self, rows: Observed) -> Ranked | None:
        """Bet on live *rows*; None where the variant is not known or has no classes."""
        classes = rows.answers.predicted
        if self._balance is None or classes is None or rows.variant not in self._counts:
            self.unranked += rows.rows
            return None
        if int(classes.max(initial=0)) >= self._balance.classes:
            self.unranked += rows.rows  # a class beyond the reference's is integrity's to tell
            return None
        self._variant = rows.variant
        return Ranked(None, self._balance.update(classes, rows.variant, rows.ids, rows.at))

    def moved(self) -> tuple[Mapping[str, Any], ...]:
        """Return the shares of the classes before and after, as one feature."""
        if self._balance is None or self._variant not in self._counts:
            return ()
        before = self._balance.expected(self._variant)
        recent = self._balance.recent
        after = recent / max(1, recent.sum())
        names = self._names or [str(each) for each in range(self._balance.classes)]
        return (
            {
                "name": "class",
                "moved": round(float(np.abs(before - after).sum() / 2), 4),
                "labels": list(names),
                "edges": [float(each) for each in range(self._balance.classes + 1)],
                "before": [round(float(each), 4) for each in before],
                "after": [round(float(each), 4) for each in after],
            },
        )

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        parts: dict[str, Array] = {f"counts/{name}": each for name, each in self._counts.items()}
        parts["caution"] = np.array(self.caution, dtype=np.str_)
        if self._balance is not None:
            parts |= {f"detector/{k}": array for k, array in self._balance.state().items()}
        return parts

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._counts = under(state, "counts")
        self.caution = str(state["caution"])
        self._balance = ClassBalance(self._counts)
        self._balance.restore(under(state, "detector"))

    def _rebuild(self) -> None:
        width = max(len(each) for each in self._counts.values())
        self._counts = {
            name: np.pad(each, (0, width - len(each))) for name, each in self._counts.items()
        }
        before = self._balance
        self._balance = ClassBalance(self._counts)
        if before is not None:
            self._balance.restore(before.state())
