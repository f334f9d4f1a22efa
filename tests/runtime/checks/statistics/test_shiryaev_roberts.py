from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanflow_serve.runtime.checks.statistics.shiryaev_roberts import ShiryaevRoberts

FACTORS = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(0.05, 20)
)


def names(rows: int) -> list[str]:
    return [str(row) for row in range(rows)]


@settings(deadline=None)
@given(factors=FACTORS, step=st.sampled_from([1, 200]))
def test_wealth_is_the_mean_of_sums_over_all_beginnings(factors: np.ndarray, step: int) -> None:
    bets = ShiryaevRoberts(2, step)
    path = bets.update(np.log(factors))
    for row in range(len(factors)):
        sums = [step * factors[s : row + 1].prod(axis=0) for s in range(row + 1)]
        assert np.exp(path[row]) == pytest.approx(np.sum(sums, axis=0).mean(), rel=1e-9)
    assert bets.log_wealth == pytest.approx(path[-1])
    assert bets.rows == step * len(factors)


@settings(deadline=None)
@given(factors=FACTORS)
def test_change_point_is_the_beginning_whose_bet_won_most(factors: np.ndarray) -> None:
    bets = ShiryaevRoberts(2)
    bets.update(np.log(factors), names(len(factors)), np.arange(len(factors)) * 1.0)
    products = np.array([factors[s:, bets.leader].prod() for s in range(len(factors))])
    assert bets.change_point is not None
    assert products[bets.change_point] == pytest.approx(products.max())
    assert bets.since == str(bets.change_point)
    assert bets.since_at == bets.change_point


@settings(deadline=None)
@given(factors=FACTORS, data=st.data())
def test_batches_give_what_row_by_row_gives(factors: np.ndarray, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(factors)), max_size=5).map(sorted))
    ids = names(len(factors))
    single, batched = ShiryaevRoberts(2), ShiryaevRoberts(2)
    for row in range(len(factors)):
        single.update(np.log(factors[row : row + 1]), ids[row : row + 1])
    for low, high in zip([0, *cuts], [*cuts, len(factors)], strict=True):
        batched.update(np.log(factors[low:high]), ids[low:high])
    assert batched.log_wealth == pytest.approx(single.log_wealth, rel=1e-9, abs=1e-9)
    for bet, (one, other) in enumerate(zip(batched.starts, single.starts, strict=True)):
        # Equal but for rounding: either may be told.
        assert factors[one:, bet].prod() == pytest.approx(factors[other:, bet].prod(), rel=1e-9)
    assert batched.since == str(batched.change_point)


def test_wealth_that_nobody_acknowledges_does_not_overflow() -> None:
    bets = ShiryaevRoberts(1)
    bets.update(np.full((10_000, 1), np.log(50)))
    assert bets.log_wealth == pytest.approx(10_000 * np.log(50), rel=1e-3)
    assert np.isfinite(bets.wealth)


def test_state_survives_a_restart_through_a_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bets, again = ShiryaevRoberts(2), ShiryaevRoberts(2)
    bets.update(rng.normal(size=(50, 2)), names(50), np.arange(50.0))
    np.savez(tmp_path / "state.npz", **bets.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as kept:
        again.restore(kept)
    more = rng.normal(size=(20, 2))
    assert np.array_equal(again.update(more), bets.update(more))
    assert (again.rows, again.since, again.change_point) == (
        bets.rows,
        bets.since,
        bets.change_point,
    )


def test_merged_replicas_have_the_sum_of_wealth_and_the_change_of_the_richer() -> None:
    quiet, loud = ShiryaevRoberts(1), ShiryaevRoberts(1)
    quiet.update(np.log(np.full((10, 1), 0.5)), names(10))
    loud.update(np.log(np.repeat([0.5, 3.0], 5)[:, None]), [f"loud-{row}" for row in range(10)])
    total = quiet.wealth + loud.wealth
    quiet.merge([loud.state()])
    assert quiet.wealth == pytest.approx(total)
    assert quiet.rows == 20
    assert quiet.since == "loud-5"


def test_acknowledged_bets_begin_from_nothing() -> None:
    bets = ShiryaevRoberts(1)
    bets.update(np.ones((5, 1)), names(5), np.ones(5))
    bets.acknowledge()
    assert (bets.wealth, bets.rows, bets.since, bets.since_at) == (0, 0, "", None)
    assert bets.change_point is None


def test_no_rows_change_nothing() -> None:
    bets = ShiryaevRoberts(1)
    assert bets.update(np.empty((0, 1))).shape == (0,)
    assert bets.rows == 0


def test_state_of_other_bets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there must be 3 bets, got \(2,\)"):
        ShiryaevRoberts(3).restore(ShiryaevRoberts(2).state())


@pytest.mark.parametrize(
    ("factors", "ids", "rule"),
    [
        (np.zeros((2, 2)), (), r"must be of shape \(rows, 1\)"),
        (np.array([[np.nan]]), (), "must be finite"),
        (np.zeros((2, 1)), ["a"], "as many as rows = 2, got 1"),
    ],
)
def test_factors_that_cannot_be_bet_are_refused(
    factors: np.ndarray, ids: list[str], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        ShiryaevRoberts(1).update(factors, ids)
