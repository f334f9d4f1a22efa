"""What a portfolio is made of: detectors that bet on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log
from typing import Any, Protocol

from scanflow_serve.runtime.checks.rows import Observed, Reference
from scanflow_serve.runtime.tensors import Array


@dataclass(frozen=True, slots=True)
class Ranked:
    """Live rows as a member sees them.

    Attributes:
        p: Two-sided p-value of each row, shape (rows,); for a row whose score is no number the
            least there can be. None where rows have none.
        path: Log wealth after each row, shape (rows,).
    """

    p: Array | None
    path: Array


class Bettor(Protocol):
    """What has bet: `EDetector`, `ClassBalance`, or another of their kind."""

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of its wealth, -inf before the first row."""
        ...

    @property
    def rows(self) -> int:
        """Return how many rows it has bet on since it began."""
        ...

    @property
    def change_point(self) -> int | None:
        """Return how many of these came before the likeliest change; None before the first."""
        ...

    @property
    def since(self) -> str:
        """Return the id of the row at which the likeliest change began; "" if not known."""
        ...

    @property
    def since_at(self) -> float | None:
        """Return the Unix time of that row in s; None if not known."""
        ...

    @property
    def telling(self) -> tuple[str, ...]:
        """Return the ids of the rows that speak loudest for the change."""
        ...

    def acknowledge(self) -> None:
        """Begin anew from nothing."""
        ...

    def merge(self, others: Sequence[Mapping[str, Array]], /) -> None:
        """Add the wealth of replicas."""
        ...


class Member(Protocol):
    """One detector with its score and its reference; see `ScoreMember`."""

    name: str
    caution: str  # why run lengths won't hold; "" where nothing speaks against them

    @property
    def detector(self) -> Bettor:
        """Return what has bet."""
        ...

    @property
    def of_outputs(self) -> bool:
        """Return whether it looks at what the model answered."""
        ...

    @property
    def ready(self) -> bool:
        """Return whether it is fitted."""
        ...

    @property
    def calibration_rows(self) -> int:
        """Return the rows of its smallest calibration set; 0 where it has none."""
        ...

    def fit(self, reference: Reference) -> None:
        """Learn normal times."""
        ...

    def add(self, reference: Reference) -> None:
        """Learn what variants answer that are not known yet."""
        ...

    def rank(self, rows: Observed) -> Ranked | None:
        """Bet on live rows; None where it has no say on them."""
        ...

    def moved(self) -> tuple[Mapping[str, Any], ...]:
        """Return histograms of what it looks at itself, where that is no feature of the inputs."""
        ...

    def state(self) -> Mapping[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        ...


@dataclass(frozen=True, slots=True)
class Stake:
    """A member and its share of the portfolio's wealth."""

    member: Member
    weight: float

    @property
    def log_wealth(self) -> float:
        """Return the logarithm of what it adds to the portfolio's wealth; -inf before it bets."""
        if not self.member.ready:
            return -inf
        return log(self.weight) + self.member.detector.log_wealth


def under(state: Mapping[str, Array], name: str) -> dict[str, Array]:
    """Return the arrays of *state* whose names begin with ``name/``, without that.

    >>> under({"a/x": 1, "b/x": 2}, "a")
    {'x': 1}
    """
    prefix = f"{name}/"
    return {key[len(prefix) :]: array for key, array in state.items() if key.startswith(prefix)}
