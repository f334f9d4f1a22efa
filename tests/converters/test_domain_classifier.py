"""Whether rows can be told from a reference, on rows where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.converters.domain_classifier import FEWEST, separate
from scanflow_serve.policies.errors import DataError


def rows(seed: int, count: int, moved: float = 0.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, 2, 3)).astype(np.float32)
    values[:, 1, 0] += moved
    return {"x": values, "colour": random.choice(["red", "blue"], (count, 1))}


def test_alike_rows_are_told_apart_as_rarely_as_p_says() -> None:
    found = [separate(rows(seed, 200), rows(1000 + seed, 120), seed=seed) for seed in range(20)]
    assert sum(each.p_val <= 0.05 for each in found) <= 3
    assert 0.4 < np.mean([each.auc for each in found]) < 0.6


def test_what_moved_is_named_first() -> None:
    found = separate(rows(1, 300), rows(2, 200, moved=1.5))
    assert found.auc > 0.75
    assert found.p_val < 1e-6
    assert found.features[0][0] == "x[3]"
    assert (found.rows, found.reference_rows) == (200, 300)


def test_a_level_that_came_up_is_named_though_it_is_text() -> None:
    after = rows(2, 200)
    after["colour"][:150] = "black"
    assert separate(rows(1, 300), after).features[0][0] == "colour"


def test_missing_values_tell_rows_apart_too() -> None:
    after = rows(2, 200)
    after["x"][:150, 0, 1] = np.nan
    assert separate(rows(1, 300), after).p_val < 1e-6


def test_few_rows_are_refused() -> None:
    with pytest.raises(
        DataError, match=rf"--data: must have >= {FEWEST} rows .*got 12\. Give more"
    ):
        separate(rows(1, 300), rows(2, 12))
