from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanflow_serve.runtime.checks.statistics.splits import (
    calibration_rows_needed,
    honoured_run_length,
    reference_rows_needed,
    split_rows,
)


@settings(deadline=None)
@given(rows=st.integers(50, 3000), seed=st.integers(0, 9), ordered=st.booleans())
def test_parts_are_60_30_10_percent_disjoint_and_all(rows: int, seed: int, ordered: bool) -> None:
    parts = split_rows(rows, seed=seed, ordered=ordered)
    assert (len(parts.calibrate), len(parts.verify)) == (rows * 3 // 10, rows // 10)
    together = np.concatenate([parts.fit, parts.calibrate, parts.verify])
    assert np.array_equal(np.sort(together), np.arange(rows))
    for part in (parts.fit, parts.calibrate, parts.verify):
        assert (np.diff(part) > 0).all()


def test_same_seed_gives_same_parts_and_another_gives_others() -> None:
    first, again, other = (split_rows(500, seed=seed).fit for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_rows_in_order_go_to_parts_in_whole_blocks() -> None:
    parts = split_rows(1000, seed=3, ordered=True, block=20)
    owner = np.zeros(1000, int)
    owner[parts.calibrate], owner[parts.verify] = 1, 2
    assert all(len(set(block)) == 1 for block in owner.reshape(50, 20))


def test_every_part_of_an_ordered_reference_sees_the_whole_time() -> None:
    parts = split_rows(5000, seed=4, ordered=True)
    for part in (parts.fit, parts.calibrate, parts.verify):
        fifths = np.bincount(part // 1000, minlength=5)
        assert fifths.min() == pytest.approx(fifths.max(), abs=2)


def test_blocks_longer_than_a_tenth_of_the_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be >= 10 blocks of 24, got 100. Give 240 rows"):
        split_rows(100, seed=0, ordered=True, block=24)


def test_fewer_than_ten_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows must be >= 10, got 9. Give more rows"):
        split_rows(9, seed=0)


@settings(deadline=None)
@given(run_length=st.integers(1, 10**7))
def test_reference_rows_needed_are_the_least_that_honour_a_run_length(run_length: int) -> None:
    needed = reference_rows_needed(run_length)
    assert honoured_run_length(run_length, needed * 3 // 10).rows == run_length
    assert (needed - 1) * 3 // 10 < calibration_rows_needed(run_length)


def test_run_length_above_what_calibration_honours_is_refused_with_what_is_needed() -> None:
    with pytest.raises(
        ValueError,
        match=r"<= 50 x 199 calibration rows = 9950, got 10000. Give 20"
        r"0 calibration rows, that is 667 reference rows",
    ):
        honoured_run_length(10_000, 199)


def test_default_run_length_is_lowered_with_a_warning() -> None:
    lowered = honoured_run_length(None, 120)
    assert lowered.rows == 6000
    assert "not 10000" in lowered.warning
    assert "667 reference rows" in lowered.warning
    assert honoured_run_length(None, 200).warning == ""


def test_strict_honours_any_run_length() -> None:
    assert honoured_run_length(10**6, 200, strict=True).rows == 10**6
