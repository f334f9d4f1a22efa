"""Whether rows are told to depend on one another, and for how long."""

from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.checks.statistics.dependence import dependence
from scanflow_serve.runtime.tensors import Array


def autoregressive(rng: np.random.Generator, rows: int, memory: float) -> Array:
    values = np.empty(rows)
    last = rng.normal()
    for row, noise in enumerate(rng.normal(size=rows) * np.sqrt(1 - memory**2)):
        last = memory * last + noise
        values[row] = last
    return values


def test_independent_rows_are_hardly_ever_called_dependent() -> None:
    found = [dependence(np.random.default_rng(seed).random(300)).found for seed in range(400)]
    assert sum(found) <= 3  # 0.4 expected at 0.1 %; of 4 or more the chance is 1 in 1,200


@pytest.mark.parametrize("memory", [0.3, 0.6, 0.9])
def test_rows_that_remember_are_told(memory: float) -> None:
    for seed in range(20):
        assert dependence(autoregressive(np.random.default_rng(seed), 600, memory)).found


@pytest.mark.parametrize("memory", [0.5, 0.8, 0.9])
def test_correlation_time_is_that_of_the_process(memory: float) -> None:
    times = [
        dependence(autoregressive(np.random.default_rng(seed), 5000, memory)).time
        for seed in range(10)
    ]
    assert np.median(times) == pytest.approx((1 + memory) / (1 - memory), rel=0.2)


def test_means_of_the_blocks_suggested_are_nearly_independent() -> None:
    values = autoregressive(np.random.default_rng(0), 100_000, 0.9)
    block = dependence(values).block
    means = values[: len(values) // block * block].reshape(-1, block).mean(axis=1)
    assert 80 <= block <= 120
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.1


def test_constant_and_short_rows_tell_nothing() -> None:
    assert not dependence(np.zeros(500)).found
    assert not dependence(np.repeat([0.0, 1.0], 20)).found
