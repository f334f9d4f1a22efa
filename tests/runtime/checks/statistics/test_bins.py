from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanflow_serve.runtime.checks.statistics.bins import BINS, Bins

VALUES = st.floats(-1e6, 1e6)
TABLES = hnp.arrays(np.float64, st.tuples(st.integers(1, 60), st.just(2)), elements=VALUES)


@settings(deadline=None)
@given(reference=TABLES, live=TABLES, cut=st.integers(0, 60))
def test_counts_are_numpys_histogram_and_add_up_over_batches(
    reference: np.ndarray, live: np.ndarray, cut: int
) -> None:
    bins = Bins.fit(reference)
    counts = bins.counts(live)
    assert np.array_equal(counts, bins.counts(live[:cut]) + bins.counts(live[cut:]))
    for feature in range(2):
        inner = bins.edges[feature][np.isfinite(bins.edges[feature])]
        edges = np.concatenate([[-np.inf], inner, [np.inf]])
        expected = np.histogram(live[:, feature], edges)[0]
        assert counts[feature, : len(expected)].tolist() == expected.tolist()
        assert counts[feature].sum() == len(live)


def test_bins_of_many_values_hold_like_shares_of_the_reference() -> None:
    bins = Bins.fit(np.random.default_rng(0).normal(size=(1000, 3)))
    assert bins.before.min() >= 49
    assert bins.before.max() <= 51


def test_each_of_few_values_has_a_bin_of_its_own() -> None:
    bins = Bins.fit(np.array([[0.0], [1.0], [1.0], [16.0]]))
    assert bins.before[0, :3].tolist() == [1, 2, 1]
    assert bins.counts(np.array([[16.0], [0.0]]))[0, :3].tolist() == [1, 0, 1]


def test_value_other_than_a_constant_features_leaves_its_bin_either_way() -> None:
    bins = Bins.fit(np.full((10, 1), 3.0))
    assert bins.counts(np.array([[2.9], [3.0], [3.1], [np.inf]]))[0, :3].tolist() == [1, 1, 2]


def test_centres_are_the_means_of_the_bins_in_standard_deviations() -> None:
    rows = np.random.default_rng(1).normal(5, 3, size=(400, 1))
    bins = Bins.fit(rows)
    inside = rows[rows < bins.edges[0, 0]]
    assert bins.centres[0, 0] == pytest.approx(inside.mean() / rows.std())
    assert (np.diff(bins.centres) > 0).all()


def test_images_are_counted_in_parts_that_fit_into_memory() -> None:
    rng = np.random.default_rng(2)
    bins = Bins.fit(rng.normal(size=(50, 3000)))
    live = rng.normal(size=(100, 3000))  # 5.7 million comparisons: three parts
    assert np.array_equal(bins.counts(live), sum(bins.counts(row[None]) for row in live))


@pytest.mark.parametrize("shape", [(3,), (0, 2), (3, 0)])
def test_reference_without_rows_or_features_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be of shape \(rows, features\), got"):
        Bins.fit(np.zeros(shape))


def test_values_that_have_no_bin_are_refused_with_their_place() -> None:
    rows = np.zeros((BINS, 2))
    rows[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"must be finite, got nan in row 3, feature 1"):
        Bins.fit(rows)
    with pytest.raises(ValueError, match=r"must be numbers, got nan in row 3, feature 1"):
        Bins.fit(np.zeros((5, 2))).counts(rows)
