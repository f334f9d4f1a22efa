"""A ULID for every predicted row; feedback refers to it."""

from __future__ import annotations

import os
import time
from itertools import product

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple("".join(pair) for pair in product(_CROCKFORD, repeat=2))  # 10 bits each
_PLACES = tuple(range(100, -1, -10))  # of the 11 pairs before the row's: 48 bits of time, 60 random

MAX_ROWS = 1 << 20  # what the last four characters can count


def prediction_ids(rows: int) -> list[str]:
    """Return a ULID for each of *rows* rows, in lexical order.

    The ids of one request share time and 60 random bits, and count rows in the last 20 bits:
    one draw of randomness a request, 0.3 us a row instead of 7 us.

    Raises:
        ValueError: *rows* lies outside [1, 2**20].

    Source:
        ULID specification, https://github.com/ulid/spec, section Monotonicity.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise ValueError(f"prediction_ids: rows must be in [1, {MAX_ROWS}], got {rows}.")
    # python-ulid takes 4 us, and counts up in the very bits that count our rows.
    bits = int(time.time() * 1000) << 60 | int.from_bytes(os.urandom(8), "big") >> 4
    prefix = "".join([_PAIRS[bits >> at & 1023] for at in _PLACES])
    return [prefix + _PAIRS[row >> 10] + _PAIRS[row & 1023] for row in range(rows)]
