"""Histograms that count while rows stream by: what windows are compared on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scanflow_serve.runtime.tensors import Array

BINS = 20  # twentieths for distances of distributions; joined in pairs, the usual tenths
AT_ONCE = 2_000_000  # comparisons, so that a batch of images takes no more than some MB


@dataclass(frozen=True, slots=True)
class Bins:
    """Bins of like shares of the reference, for each feature.

    Attributes:
        edges: Between bins, ascending, shape (features, BINS - 1); a value on an edge counts above
            it. +inf where a feature has fewer bins, as one of few values has.
        before: Reference rows in each bin, shape (features, BINS), int64.
        centres: Mean of the reference rows in each bin, shape (features, BINS), in standard
            deviations of the feature; of an empty bin that of the bin before.
    """

    edges: Array
    before: Array
    centres: Array

    @classmethod
    def fit(cls, reference: Array) -> Bins:
        """Return bins of *reference*, shape (rows, features).

        Raises:
            ValueError: It has no row or no feature, or a value is not finite.
        """
        rows = np.asarray(reference, dtype=np.float64)
        if rows.ndim != 2 or 0 in rows.shape:
            raise ValueError(
                f"bins: reference must be of shape (rows, features), got {rows.shape}. "
                "Give rows of numbers."
            )
        _require_finite(rows)
        edges = np.stack([_edges(column) for column in rows.T])
        places = _places(rows, edges)
        before = _counts(places, BINS)
        scale = rows.std(axis=0)
        sums = np.zeros(before.shape)
        for feature, column in enumerate(rows.T):
            sums[feature] = np.bincount(places[:, feature], weights=column, minlength=BINS)
        known = before > 0
        latest = np.maximum.accumulate(np.where(known, np.arange(BINS), 0), axis=1)
        means = np.divide(sums, before, out=np.zeros_like(sums), where=known)
        means = np.take_along_axis(means, latest, axis=1)
        centres = means / np.where(scale > 0, scale, 1.0)[:, None]
        return cls(edges, before, centres)

    def counts(self, rows: Array) -> Array:
        """Return how many of *rows* are in each bin, shape (features, BINS), int64.

        Raises:
            ValueError: A value is NaN.
        """
        total = np.zeros_like(self.before)
        size = max(1, AT_ONCE // self.edges.size)
        for start in range(0, len(rows), size):
            part = np.asarray(rows[start : start + size], dtype=np.float64)
            _require_no_nan(part, start)
            total += _counts(_places(part, self.edges), BINS)
        return total


def _edges(column: Array) -> Array:
    """Return the edges between twentieths; halfway between values where these are few."""
    values = np.unique(column)
    if len(values) <= BINS:
        inner = (values[:-1] + values[1:]) / 2
    else:
        inner = np.unique(np.quantile(column, np.arange(1, BINS) / BINS, method="higher"))
        inner = inner[inner > values[0]]  # nothing lies below the least
    # A constant feature has a bin on either side of its value, so that another is seen.
    if not len(inner):
        inner = np.array([values[0], np.nextafter(values[0], np.inf)])
    return np.concatenate([inner, np.full(BINS - 1 - len(inner), np.inf)])


def _places(rows: Array, edges: Array) -> Array:
    """Return the bin of each value, shape (rows, features)."""
    # A live +inf is not above the edges that are there for want of bins.
    above = (rows[:, :, None] >= edges).sum(axis=2)
    places: Array = np.minimum(above, np.isfinite(edges).sum(axis=1))
    return places


def _counts(places: Array, bins: int) -> Array:
    features = places.shape[1]
    flat = (places + np.arange(features) * bins).ravel()
    counts: Array = np.bincount(flat, minlength=features * bins).reshape(features, bins)
    return counts


def _require_finite(rows: Array) -> None:
    if not np.isfinite(rows).all():
        row, feature = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(
            f"bins: reference must be finite, got {rows[row, feature]} in row {row}, feature "
            f"{feature}. Clean the reference."
        )


def _require_no_nan(rows: Array, start: int) -> None:
    if np.isnan(rows).any():
        row, feature = np.argwhere(np.isnan(rows))[0]
        raise ValueError(
            f"bins: values must be numbers, got nan in row {start + row}, feature {feature}. "
            "Leave out the rows that integrity flags, or repair them."
        )
