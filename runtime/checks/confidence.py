"""How sure the model is, as a score: it falls under most drifts of inputs that matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from scanflow_serve.runtime.checks.protocol import Need
from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting
from scanflow_serve.runtime.checks.statistics.uncertainty import entropy, least_confidence
from scanflow_serve.runtime.tensors import Array

MEASURES = {"confidence": least_confidence, "entropy": entropy}


def uncertainty(setting: Setting, method: str) -> Uncertainty:
    """Return the score that the policy calls *method*."""
    del setting
    return Uncertainty(method)


class Uncertainty:
    """A score of the class probabilities.

    Args:
        measure: ``confidence``: 1 - the largest; ``entropy``.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})
    learns = False  # so that all reference rows but the verified ones calibrate

    def __init__(self, measure: str = "confidence") -> None:
        self._measure = MEASURES[measure]

    def fit(self, reference: Reference) -> None:
        """Learn nothing: the model has."""

    def score(self, rows: Observed) -> Array:
        """Return the uncertainty of each row.

        Raises:
            ValueError: The run answers no probabilities.
        """
        if rows.answers.probabilities is None:
            raise ValueError(
                "confidence: the run must answer with class probabilities, got none. "
                "Set the model's `kind:` and `output:`, or use another method."
            )
        return self._measure(rows.answers.probabilities)

    def state(self) -> Mapping[str, Array]:
        """Return nothing."""
        return {}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up nothing."""
