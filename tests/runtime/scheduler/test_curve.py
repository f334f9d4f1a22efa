"""Latency by rows, from the sizes that were measured."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanflow_serve.runtime.measurements import Latency
from scanflow_serve.runtime.scheduler.curve import UNMEASURED, Curve


def curve(p50: dict[int, float], most: int = 32) -> Curve:
    return Curve({rows: Latency(ms, ms * 1.5, 9) for rows, ms in p50.items()}, most)


@pytest.mark.parametrize(
    ("rows", "ms"), [(1, 2.0), (2, 3.0), (4, 5.0), (8, 9.0), (16, 17.0), (32, 33.0)]
)
def test_latency_is_interpolated_between_sizes_and_extended_beyond(rows: int, ms: float) -> None:
    known = curve({1: 2, 8: 9})
    assert known.p50_ms(rows) == pytest.approx(ms)
    assert known.p95_ms(rows) == pytest.approx(1.5 * ms)


def test_more_rows_than_a_call_holds_take_several_calls() -> None:
    assert curve({1: 2, 8: 9}, 8).p50_ms(20) == pytest.approx(9 + 9 + 5)


def test_model_of_fixed_batch_costs_a_whole_batch_for_one_row() -> None:
    assert curve({8: 9}).p50_ms(1) == 9


def test_single_size_grows_in_proportion() -> None:
    assert curve({1: 2}).p50_ms(5) == pytest.approx(10)


def test_noise_does_not_make_more_rows_cheaper_than_fewer() -> None:
    known = curve({1: 5, 2: 4, 4: 6})
    assert [known.p50_ms(rows) for rows in (1, 2, 4)] == [5, 5, 6]


def test_p95_below_the_median_is_taken_for_the_median() -> None:
    assert Curve({1: Latency(4, 3, 9)}, 8).p95_ms(1) == 4


def test_what_was_not_measured_is_a_trifle() -> None:
    assert Curve.of(None, 4).p50_ms(1) == UNMEASURED.p50_ms


def test_flat_curve_is_thrifty_full_and_linear_curve_at_any_size() -> None:
    assert curve({1: 10, 32: 10}).thrifty_batch == 32
    assert curve({1: 1, 32: 32}).thrifty_batch == 32


def test_curve_that_turns_up_is_thrifty_before_it_does() -> None:
    assert curve({1: 4, 8: 8, 16: 40, 32: 90}).thrifty_batch == 8


@given(
    st.dictionaries(st.integers(1, 64), st.floats(0, 1e4), min_size=1, max_size=6),
    st.integers(1, 64),
)
def test_latency_never_falls_as_rows_grow_and_is_never_zero(
    p50: dict[int, float], most: int
) -> None:
    known = curve(p50, most)
    values = [known.p95_ms(rows) for rows in range(1, 3 * most)]
    assert all(low <= high + 1e-9 for low, high in itertools.pairwise(values))
    assert values[0] > 0
    assert 1 <= known.thrifty_batch <= most


def test_contention_stretches_all_calls() -> None:
    curve = Curve({1: Latency(2.0, 3.0, 9), 2: Latency(4.0, 5.0, 9)}, 4, 1.5)
    assert [curve.p50_ms(rows) for rows in (1, 2, 4)] == pytest.approx([3.0, 6.0, 12.0])
    assert curve.p95_ms(1) == pytest.approx(4.5)


def test_call_in_less_company_takes_less() -> None:
    curve = Curve({1: Latency(2.0, 3.0, 9)}, 1, 1.6)
    paces = [curve.pace(others, 3) * curve.p50_ms(1) for others in (0, 1, 3, 4)]
    assert paces == pytest.approx([2.0, 2.4, 3.2, 3.2])
