from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from scanflow_serve.runtime.checks.statistics.telling import TellingRows

CONTRIBUTIONS = st.lists(st.floats(-5, 5), max_size=60)


@settings(deadline=None)
@given(contributions=CONTRIBUTIONS, batch=st.integers(1, 9))
def test_kept_rows_are_the_largest_of_all_that_were_offered(
    contributions: list[float], batch: int
) -> None:
    rows = TellingRows(most=7)
    ids = [str(row) for row in range(len(contributions))]
    for low in range(0, len(ids), batch):
        rows.offer(np.array(contributions[low : low + batch]), ids[low : low + batch])
    positive = [(-value, row) for row, value in enumerate(contributions) if value > 0]
    assert rows.ids == tuple(str(row) for _, row in sorted(positive)[:7])


def test_merged_and_restored_rows_are_the_most_telling_of_both() -> None:
    one, other, both = TellingRows(most=2), TellingRows(most=2), TellingRows(most=2)
    one.offer(np.array([1.0, 4.0]), ["a", "b"])
    other.offer(np.array([3.0, 2.0]), ["c", "d"])
    both.restore(one.state())
    both.merge(other.state())
    assert both.ids == ("b", "c")


def test_cleared_rows_are_forgotten() -> None:
    rows = TellingRows()
    rows.offer(np.array([1.0]), ["a"])
    rows.clear()
    assert rows.ids == ()
