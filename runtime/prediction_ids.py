"""A ULID for every predicted row; feedback refers to it."""

from __future__ import annotations

import os
import time
from itertools import product

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple("".join(pair) for pair in product(_CROCKFORD, repeat=2))  # 10 bits each

_moment = (0, "")  # the latest millisecond, and how it is written

MAX_ROWS = 1 << 20  # what the last four characters can count


def prediction_ids(rows: int) -> list[str]:
    """Return a ULID for each of *rows* rows, in lexical order.

    The ids of one request share time and 60 random bits, and count rows in the last 20 bits:
    one draw of randomness a request. Written out here: python-ulid takes 6 us to write one.

    Raises:
        ValueError: *rows* lies outside [1, 2**20].

    Source:
        ULID specification, https://github.com/ulid/spec, section Monotonicity.
    """
    if not 1 <= rows <= MAX_ROWS:
        raise ValueError(f"prediction_ids: rows must be in [1, {MAX_ROWS}], got {rows}.")
    global _moment
    ms, chance = int(time.time() * 1000), int.from_bytes(os.urandom(8), "big")
    moment = _moment
    if ms != moment[0]:
        moment = _moment = ms, "".join(_PAIRS[ms >> shift & 1023] for shift in (40, 30, 20, 10, 0))
    prefix = (
        f"{moment[1]}"
        f"{_PAIRS[chance >> 50 & 1023]}{_PAIRS[chance >> 40 & 1023]}{_PAIRS[chance >> 30 & 1023]}"
        f"{_PAIRS[chance >> 20 & 1023]}{_PAIRS[chance >> 10 & 1023]}{_PAIRS[chance & 1023]}"
    )
    return [prefix + _PAIRS[row >> 10] + _PAIRS[row & 1023] for row in range(rows)]
