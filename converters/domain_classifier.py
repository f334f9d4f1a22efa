"""Domain classifier: can a model tell a file's rows from the reference, and by which features?

For the report only: it needs scikit-learn, sees a file as a whole and finds less than the checks in
small ones (shared with them is what moved, not since when). Source: classifier two-sample tests,
Lopez-Paz and Oquab, ICLR 2017; attribution by permutation, Breiman 2001.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scanflow_serve.policies.errors import DataError, MissingExtraError

Matrix: TypeAlias = NDArray[np.float64]
FEWEST = 40  # rows of each kind: half of them train, half are told apart
MOST = 4000  # rows of each kind, drawn
PERMUTED = 24  # features at most, those that differ most in the rows trained on
REPEATS = 3


@dataclass(frozen=True, slots=True)
class Separation:
    """How well rows are told from those of the reference, by a model that saw neither of them.

    Attributes:
        auc: Area under the ROC curve on held-out rows; 0.5: not at all.
        p_val: Of that, where both are of one kind (Mann-Whitney).
        features: What it goes by, the most telling first, with the loss of AUC where the feature is
            permuted.
    """

    auc: float
    p_val: float
    rows: int
    reference_rows: int
    features: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        named = [{"name": name, "auc_lost": lost} for name, lost in self.features]
        return {
            "auc": self.auc,
            "p_val": self.p_val,
            "rows": self.rows,
            "reference_rows": self.reference_rows,
            "features": named,
        }


def separate(
    reference: Mapping[str, NDArray[Any]], rows: Mapping[str, NDArray[Any]], *, seed: int = 0
) -> Separation:
    """Return how well *rows* can be told from *reference*.

    Args:
        reference: Arrays by input, rows first; numbers of any shape, or text.
        rows: Of the same inputs.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        DataError: Fewer than 40 rows of a kind.
    """
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
    except ImportError:
        raise MissingExtraError("scikit-learn, which --classifier needs,", "convert") from None

    random = np.random.default_rng(seed)
    before, after, names = _matrices(reference, rows, random)
    train, test = zip(*(_halves(each, random) for each in (before, after)), strict=True)
    model = HistGradientBoostingClassifier(min_samples_leaf=5, random_state=seed)
    model.fit(np.concatenate(train), np.repeat([0, 1], [len(each) for each in train]))

    def auc(matrices: tuple[Matrix, Matrix]) -> tuple[float, float]:
        old, new = (model.predict_proba(each)[:, 1] for each in matrices)
        return _told_apart(old, new)

    found, p_val = auc(test)
    lost = {
        names[feature]: found
        - np.mean([auc(_permuted(test, feature, random))[0] for _ in range(REPEATS)])
        for feature in _differing(*train)
    }
    ranked = sorted(((name, float(by)) for name, by in lost.items() if by > 0), key=lambda e: -e[1])
    return Separation(found, p_val, len(after), len(before), tuple(ranked[:5]))


def _matrices(
    reference: Mapping[str, NDArray[Any]],
    rows: Mapping[str, NDArray[Any]],
    random: np.random.Generator,
) -> tuple[Matrix, Matrix, list[str]]:
    old, new, names = [], [], []
    for name, array in reference.items():
        both = [each.reshape(len(each), -1) for each in (array, rows[name])]
        if array.dtype.kind in "OUS":
            both = _levels(*both)
        old.append(both[0].astype(np.float64))
        new.append(both[1].astype(np.float64))
        wide = both[0].shape[1]
        names += [name] if wide == 1 else [f"{name}[{column}]" for column in range(wide)]
    before, after = _drawn(np.hstack(old), random), _drawn(np.hstack(new), random)
    for what, matrix in (("the reference", before), ("--data", after)):
        if len(matrix) < FEWEST:
            rule = f"must have >= {FEWEST} rows for --classifier, got {len(matrix)}"
            raise DataError(f"{what}: {rule}. Give more, or leave --classifier out.")
    return before, after, names


def _levels(old: NDArray[Any], new: NDArray[Any]) -> list[NDArray[Any]]:
    """Return texts as the numbers of their sorted levels."""
    _, codes = np.unique(np.concatenate([old, new]).astype(str), return_inverse=True)
    codes = codes.reshape(-1, old.shape[1])
    return [codes[: len(old)], codes[len(old) :]]


def _drawn(matrix: Matrix, random: np.random.Generator) -> Matrix:
    return matrix[random.permutation(len(matrix))[:MOST]]  # in no order: halves are alike


def _halves(matrix: Matrix, random: np.random.Generator) -> tuple[Matrix, Matrix]:
    order = random.permutation(len(matrix))
    half = len(matrix) // 2
    return matrix[order[:half]], matrix[order[half:]]


def _told_apart(old: Matrix, new: Matrix) -> tuple[float, float]:
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(new, old, alternative="greater")
    return float(found.statistic) / (len(old) * len(new)), float(found.pvalue)


def _differing(old: Matrix, new: Matrix) -> list[int]:
    """Return the features that differ most one by one, those that are given at all."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([old, new]), axis=0, nan_policy="omit")
    apart = np.abs(np.nanmean(ranks[: len(old)], axis=0) - np.nanmean(ranks[len(old) :], axis=0))
    return [int(each) for each in np.argsort(-np.nan_to_num(apart))[:PERMUTED]]


def _permuted(
    matrices: tuple[Matrix, ...], feature: int, random: np.random.Generator
) -> tuple[Matrix, Matrix]:
    old, new = (each.copy() for each in matrices)
    column = random.permutation(np.concatenate([old[:, feature], new[:, feature]]))
    old[:, feature], new[:, feature] = column[: len(old)], column[len(old) :]
    return old, new
