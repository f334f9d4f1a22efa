"""Prediction ids are ULIDs, unique and in order."""

from __future__ import annotations

import time

import pytest
from ulid import ULID

from scanflow_serve.runtime.prediction_ids import MAX_ROWS, prediction_ids


def test_every_id_is_a_ulid_of_now() -> None:
    before = int(time.time() * 1000)
    ids = prediction_ids(3)
    after = int(time.time() * 1000)
    for text in ids:
        parsed = ULID.from_str(text)  # raises on anything that is not a ULID
        assert str(parsed) == text
        assert before <= parsed.milliseconds <= after


def test_rows_of_one_request_are_distinct_and_sorted() -> None:
    ids = prediction_ids(5000)
    assert len(set(ids)) == 5000
    assert ids == sorted(ids)


def test_requests_within_one_millisecond_do_not_collide() -> None:
    ids = [text for _ in range(5000) for text in prediction_ids(2)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("rows", [0, -1, MAX_ROWS + 1])
def test_rows_out_of_range_are_refused(rows: int) -> None:
    with pytest.raises(ValueError, match=r"rows must be in \[1, 1048576\]"):
        prediction_ids(rows)
