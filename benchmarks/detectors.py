"""Reconstruction detectors trained as `fit-checks` trains them, kept in a store of the benchmarks.

Training takes from 15 seconds to minutes; what was trained on the same rows is found again.
"""

from __future__ import annotations

import os
from pathlib import Path

from traffic import Rows

from scanflow_serve.runtime.checks.recipes import TRAINED
from scanflow_serve.runtime.checks.reconstruction import ReconstructionError, reconstruction
from scanflow_serve.runtime.checks.rows import Reference, Setting
from scanflow_serve.runtime.checks.scored import ScoreMember
from scanflow_serve.runtime.store import shared_store
from scanflow_serve.runtime.tensors import Signature, TensorSpec

INPUT = "rows"
ALPHA = 0.05  # of rows flagged: windows of 32 rows leave few to calibrate on


def keep_in(folder: Path) -> None:
    """Keep what is trained in *folder*, not in the user's own cache."""
    os.environ["SCANFLOW_CACHE"] = str(folder)


def setting(features: int, seed: int) -> Setting:
    """Return what a check of rows of so many features knows."""
    return Setting(Signature((TensorSpec(INPUT, "float32", (None, features)),), ()), seed=seed)


def train(method: str, reference: Rows, seed: int, *, ordered: bool = False, **given: int) -> None:
    """Train *method* on *reference* unless it is known, so that checks of these rows find it.

    Raises:
        ValueError: What was trained does not bear out its promise on the rows kept back.
    """
    if method not in TRAINED:
        return
    from scanflow_serve.converters.detectors.make import Order, make
    from scanflow_serve.runtime.stored import Refused

    score = reconstruction(setting(reference.shape[1], seed), method, **given)
    rows = Reference({INPUT: reference}, ordered=ordered, seed=seed)
    made = make(Order("drift", "drift", score, rows, ALPHA), shared_store())
    if isinstance(made, Refused):
        raise ValueError(made.refusal.reason)


def fitted(
    method: str, reference: Rows, seed: int, *, ordered: bool = False, **given: int
) -> ReconstructionError:
    """Return the score of *method*, fitted to 60 % of *reference* as a check does.

    Raises:
        ValueError: As `train`.
    """
    train(method, reference, seed, ordered=ordered, **given)
    score = reconstruction(setting(reference.shape[1], seed), method, **given)
    rows = Reference({INPUT: reference}, ordered=ordered, seed=seed)
    score.fit(rows.take(ScoreMember(method, score, seed).parts(rows).fit))
    return score
