"""A category that the reference does not have: no test, the first request is enough."""

from __future__ import annotations

import numpy as np
from shifted_streams import Delay, Outcome, summed
from traffic import Random

from scanflow_serve.runtime.checks.integrity import Integrity
from scanflow_serve.runtime.checks.rows import Reference, Setting
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec

NAME = "colour"
KNOWN, NOVEL = ("red", "blue"), "black"
REFERENCE, CALM, LONGEST = 1000, 300, 100  # rows
MOST = 1  # requests until it is seen


def novel_levels(runs: int) -> Delay:
    """Return how many requests it takes until integrity is in alarm of a new category."""
    found = [_outcome(np.random.default_rng([seed, 43])) for seed in range(runs)]
    return summed("a new category", "integrity", found, MOST)


def _outcome(random: Random) -> Outcome:
    check = Integrity(Setting(Signature((TensorSpec(NAME, "str", (None, 1)),), ())))
    check.fit(Reference({NAME: _colours(random, REFERENCE)}))
    for row in _colours(random, CALM):
        check.inspect({NAME: row[None]}, 1)
    if check.result().alarm:
        return Outcome(None)
    for row in range(LONGEST):
        check.inspect({NAME: np.array([[NOVEL]], object)}, 1)
        reading = check.result()
        if reading.alarm:
            return Outcome(row + 1, reading.evidence.detector if reading.evidence else "")
    return Outcome(float("inf"))


def _colours(random: Random, rows: int) -> Array:
    return np.array(KNOWN, object)[random.integers(len(KNOWN), size=(rows, 1))]
