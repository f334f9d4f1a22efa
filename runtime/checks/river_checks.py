"""ADWIN, Page-Hinkley and KSWIN of River as checks, for who knows them (extra ``river``).

What they depend on is the scale of what they are fed: a shift of one standard deviation takes
ADWIN 56 rows, in units a hundred times smaller 2,616, or for ever. So they are fed ranks: where
each row's score lies among those of the calibration rows, 0 to 1, whatever its unit. They promise
no run length: they bet nothing, and have no share in `expected_run_length`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import ClassVar

import numpy as np

from scanflow_serve.policies.errors import MissingExtraError
from scanflow_serve.runtime.checks import river_streams
from scanflow_serve.runtime.checks.kinds import score_of, scored
from scanflow_serve.runtime.checks.members import under
from scanflow_serve.runtime.checks.movement import Movement
from scanflow_serve.runtime.checks.protocol import (
    Cost,
    Evidence,
    Family,
    Need,
    Reading,
    Verdicts,
)
from scanflow_serve.runtime.checks.river_streams import Kind, Stream
from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting
from scanflow_serve.runtime.checks.scored import ScoreMember
from scanflow_serve.runtime.checks.statistics.promise import ALPHA
from scanflow_serve.runtime.tensors import Array

EXTRA = "river"
METHOD = "autoencoder"

# Defaults below: rows between false alarms measured on uniform ranks, and to see p -> p^4.
# ADWIN > 800,000 and 56; Page-Hinkley 27,000 and 63; KSWIN 29,000 and 30 (River's own alpha of
# 0.005: 650 to 900). Measured, not proved, as the run length of bets is.
SHOWN_RANKS = 100  # whose mean is the statistic
TOLD_ROWS = 20  # before a change was found


def adwin(setting: Setting, *, method: str = METHOD, delta: float = 0.002) -> RiverCheck:
    """Return a check by ADWIN on the score of *method*; see `river_streams.adwin`.

    Raises:
        ValueError: The method or a setting is not right.
        MissingExtraError: River is not installed.
    """
    return _check("adwin", river_streams.adwin(delta), setting, method)


def page_hinkley(
    setting: Setting, *, method: str = METHOD, delta: float = 0.05, threshold: float = 15.0
) -> RiverCheck:
    """Return a check by the Page-Hinkley test; see `river_streams.page_hinkley`.

    Raises:
        ValueError, MissingExtraError: As `adwin`.
    """
    kind = river_streams.page_hinkley(delta, threshold)
    return _check("page_hinkley", kind, setting, method)


def kswin(
    setting: Setting, *, method: str = METHOD, alpha: float = 0.00005, window: int = 100
) -> RiverCheck:
    """Return a check by KSWIN on the score of *method*; see `river_streams.kswin`.

    Raises:
        ValueError, MissingExtraError: As `adwin`.
    """
    kind = river_streams.kswin(alpha, window, setting.seed)
    return _check("kswin", kind, setting, method)


def _check(name: str, kind: Kind, setting: Setting, method: str) -> RiverCheck:
    if find_spec("river") is None:  # it is imported later, where nobody waits for a start
        raise MissingExtraError(f"River, of which the check {name!r} is made,", EXTRA)
    if setting.block:
        raise ValueError("block must come with drift, which bets on means, got it here. Remove it.")
    member = scored(method, score_of(method, setting), setting)
    if member.span > 1:
        raise ValueError(
            f"method must be one of single rows, got {method!r}. Its windows overlap: use drift."
        )
    return RiverCheck(name, member, Stream(kind), setting.inputs)


class RiverCheck:
    """A stream detector over the ranks of one score.

    Args:
        name: Of the detector, as evidence tells it.
        member: Scores rows and has their calibration; its own bets are not asked for.
        inputs: Names of inputs whose histograms are shown; empty: all.
    """

    cost: ClassVar[Cost] = "worker"
    extra: ClassVar[str | None] = EXTRA
    mergeable: ClassVar[bool] = False  # a change within one stream says nothing of another
    bets: ClassVar[bool] = False
    family: ClassVar[Family] = "drift"

    def __init__(
        self, name: str, member: ScoreMember, stream: Stream, inputs: Sequence[str]
    ) -> None:
        self._name = name
        self._member = member
        self._stream = stream
        self._inputs = tuple(inputs)
        self._movement: Movement | None = None
        self._last_p: float | None = None
        self._found_at: float | None = None
        self._ids: deque[str] = deque(maxlen=TOLD_ROWS)

    @property
    def needs(self) -> frozenset[Need]:
        """Return what its score looks at."""
        return self._member.score.needs

    def fit(self, reference: Reference) -> None:
        """Fit the score, and keep calibration rows to rank by.

        Raises:
            ValueError: The reference does not suffice.
        """
        self._member.fit(reference)
        self._movement = Movement(self._inputs or tuple(reference.inputs), reference.inputs)
        self._stream.begin()

    def fit_answers(self, reference: Reference) -> None:
        """Keep calibration rows of variants that are not known yet.

        Raises:
            ValueError: The reference does not suffice.
        """
        self._member.add(reference)

    def observe(self, rows: Observed) -> Verdicts | None:
        """Rank rows and feed the ranks, until a change is found; None for an unknown variant."""
        places = self._member.places(rows)
        if places is None:
            return None
        least = 1 / (self._member.calibration_rows + 1)
        odd = np.nan_to_num(2 * np.minimum(places, 1 - places), nan=0.0)  # no number: the oddest
        p = np.clip(odd, least, 1.0)
        if rows.rows:
            self._last_p = float(p[-1])
        if self._movement is not None:
            self._movement.observe(rows.inputs)
        if self._found_at is None:
            self._feed(places, rows)
        return Verdicts(p, p <= ALPHA)

    def _feed(self, places: Array, rows: Observed) -> None:
        known = np.flatnonzero(~np.isnan(places))
        found = self._stream.update(places[known])
        fed = known if found is None else known[: found + 1]
        self._ids.extend(rows.ids[row] for row in fed[-TOLD_ROWS:])
        if found is not None:
            self._found_at = float(rows.at[known[found]])

    def result(self) -> Reading:
        """Return how far the latest ranks lie from the middle, 0 to 1, and whether it alarms."""
        ranks = self._stream.latest(SHOWN_RANKS)
        far = abs(2 * float(ranks.mean()) - 1) if len(ranks) else 0.0
        return Reading(far, alarm=self._found_at is not None, p_val=self._last_p)

    def explain(self) -> Evidence:
        """Return the latest rows before the change was found, and the features that moved."""
        return Evidence(
            detector=self._name,
            since_at=self._found_at,
            rows=tuple(self._ids),
            features=() if self._movement is None else self._movement.moved(TOLD_ROWS),
            figures={"mean_rank": float(self._stream.latest(SHOWN_RANKS).mean())},
        )

    def acknowledge(self) -> None:
        """Begin the detector with nothing."""
        self._found_at = None
        self._ids.clear()
        self._stream.begin()

    def state(self) -> dict[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        parts = {f"member/{name}": array for name, array in self._member.state().items()}
        parts |= {f"stream/{name}": array for name, array in self._stream.state().items()}
        if self._movement is not None:
            parts |= {f"movement/{k}": array for k, array in self._movement.state().items()}
        parts["found_at"] = np.array(np.nan if self._found_at is None else self._found_at)
        parts["ids"] = np.array(self._ids, dtype=np.str_)
        return parts

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self._member.restore(under(state, "member"))
        self._stream.restore(under(state, "stream"))
        if kept := under(state, "movement"):
            self._movement = Movement.restored(kept)
        found_at = float(state["found_at"])
        self._found_at = None if np.isnan(found_at) else found_at
        self._ids = deque((str(each) for each in state["ids"]), maxlen=TOLD_ROWS)

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Refuse.

        Raises:
            ValueError: Always: it is not `mergeable`.
        """
        raise ValueError(f"{self._name}: must be mergeable, got a stream of its own. Merge bets.")
