"""The mix: against a general solver, and what lanes get of the host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from scanflow_serve.runtime.scheduler.mix import Mix, best_mix, fair_shares

COST = st.floats(0.1, 100)
WORTH = st.floats(0, 1)


@given(st.lists(st.tuples(WORTH, COST), min_size=1, max_size=6), st.floats(0.05, 150))
def test_mix_is_the_optimum_of_its_linear_program(
    options: list[tuple[float, float]], capacity: float
) -> None:
    options.sort(reverse=True)
    worth, cost = [w for w, _ in options], [c for _, c in options]
    mix = best_mix(worth, cost, capacity)
    ours = mix.share * worth[mix.upper] + (1 - mix.share) * worth[mix.lower]
    solved = linprog(
        [-w for w in worth],
        A_ub=[cost],
        b_ub=[capacity],
        A_eq=[[1.0] * len(worth)],
        b_eq=[1.0],
    )
    if min(cost) > capacity:
        assert solved.status == 2  # infeasible: the cheapest takes it all
        assert cost[mix.upper] == min(cost)
        assert mix.load > 1
        return
    assert ours == pytest.approx(-solved.fun, abs=1e-6)
    used = mix.share * cost[mix.upper] + (1 - mix.share) * cost[mix.lower]
    assert used <= capacity * (1 + 1e-9)


def test_option_that_is_worse_and_dearer_has_no_part() -> None:
    mix = best_mix([0.99, 0.95, 0.90], [10, 11, 2], 6)
    assert (mix.upper, mix.lower, mix.share) == (0, 2, pytest.approx(0.5))


def test_idle_host_affords_the_best() -> None:
    assert best_mix([0.99, 0.9], [10, 2], float("inf")) == Mix(0, 0, 1.0, 0.0)


@given(
    st.lists(st.tuples(st.floats(0, 2), st.just(0.0) | st.floats(1e-6, 1)), min_size=1, max_size=6),
    st.floats(0.1, 1),
)
def test_shares_add_up_to_the_host(lanes: list[tuple[float, float]], total: float) -> None:
    weights = [weight for _, weight in lanes]
    shares = fair_shares([need for need, _ in lanes], weights, total)
    assert sum(shares) == pytest.approx(total if any(weights) else 0)
    assert all(share >= 0 for share in shares)


def test_what_one_lane_does_not_need_the_others_share_by_weight() -> None:
    assert fair_shares([0.1, 2, 2], [1, 1, 3], 0.9) == pytest.approx([0.1, 0.2, 0.6])
