"""The two interfaces of a plug-in: a `Score`, ten lines; and a `Check`, which does all by itself.

Most ideas are a score: a number a row, from inputs or outputs. The host makes a check of it:
splits the reference, turns scores into conformal p-values (so that every score has the same unit
and "1 %" means one per cent), flags rows, and bets against their being uniform, so that
`expected_run_length` holds without the plug-in doing anything for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

from scanflow_serve.runtime.checks.rows import Observed, Reference
from scanflow_serve.runtime.tensors import Array

Need: TypeAlias = Literal["inputs", "outputs", "labels"]
Family: TypeAlias = Literal["integrity", "anomaly", "drift", "balance"]
Cost: TypeAlias = Literal["inline", "worker"]  # µs a row, before inference; or beside it


@runtime_checkable
class Score(Protocol):
    """One number a row; higher or lower than in normal times is equally odd.

    Attributes:
        needs: What `score` looks at. A score of outputs is calibrated for each variant.
    """

    needs: ClassVar[frozenset[Need]]

    def fit(self, reference: Reference) -> None:
        """Learn from rows of normal times. The host keeps others back to calibrate on."""
        ...

    def score(self, rows: Observed) -> Array:
        """Return a finite number for each row, shape (rows,), float64."""
        ...

    def state(self) -> Mapping[str, Array]:
        """Return all that `fit` learned, as arrays, to be kept over a restart."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        ...


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a check says of each row.

    Attributes:
        p_val: Conformal p-value of each row, shape (rows,), in (0, 1]; None where rows have none.
        flagged: Whether each row is out of the ordinary, shape (rows,), bool.
    """

    p_val: Array | None
    flagged: Array


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a check is in alarm.

    Attributes:
        detector: What moved most, such as ``autoencoder`` or ``ks``.
        since: Prediction id at which it began, as far as can be told; "" if not.
        since_at: Unix time of that row, in s; None if not known.
        rows: Ids of the most telling rows, at most 20.
        features: Those that moved most, first: name, how far (0 to 1), and histograms of before
            and after over the same edges.
        figures: Whatever else is worth showing.
    """

    detector: str = ""
    since: str = ""
    since_at: float | None = None
    rows: tuple[str, ...] = ()
    features: tuple[Mapping[str, Any], ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a check says at present; the host makes phases, latched states and alarms of it.

    Attributes:
        statistic: Its own figure, for people and plots.
        wealth: Value of its e-detector: without a change its mean is at most the rows seen, so
            that it reaches A no sooner than after A rows on average. The host adds up the
            weighted wealth of all checks of a model, and alarms at `expected_run_length`.
            None: it does not bet; `alarm` decides.
        peak: Largest `wealth` since `result` was last called, where it is known row by row: the
            check's own alarm goes by it, so that a batch hides nothing. None: take `wealth`.
        alarm: Whether it is in alarm by its own rule; only where `wealth` is None.
        p_val: Of its latest rows or window; None where it has none.
        ready: False while it still gathers what it needs; `why` says what.
        why: One sentence.
    """

    statistic: float
    wealth: float | None = None
    peak: float | None = None
    alarm: bool = False
    p_val: float | None = None
    ready: bool = True
    why: str = ""
    evidence: Evidence | None = None


@runtime_checkable
class Check(Protocol):
    """What watches live traffic by itself.

    Made by ``factory(setting: Setting, **settings)``; unknown or bad settings raise ValueError
    with the rule and the cure.

    Attributes:
        cost: ``inline``: `observe` may be called before inference, on the request's path.
        extra: Extra of scanflow-serve that it needs, None if none.
        mergeable: Replicas' states can be added up by `merge`.

    A check of drift or balance that never gives a `Reading.wealth` has ``bets = False`` beside
    these, and leaves its share of the budget of false alarms to the others.
    """

    cost: ClassVar[Cost]
    extra: ClassVar[str | None]
    mergeable: ClassVar[bool]

    @property
    def family(self) -> Family:
        """Return what kind of trouble it sees; a class variable will do."""
        ...

    @property
    def needs(self) -> frozenset[Need]:
        """Return what it looks at; a class variable will do."""
        ...

    def fit(self, reference: Reference) -> None:
        """Learn normal times, and arm.

        Raises:
            ValueError: The reference does not suffice; says how much would.
        """
        ...

    def observe(self, rows: Observed) -> Verdicts | None:
        """Look at live rows; return what it says of each, None if it has no say on rows."""
        ...

    def result(self) -> Reading:
        """Return what it says at present."""
        ...

    def acknowledge(self) -> None:
        """Go on from nothing: a person has seen the alarm."""
        ...

    def state(self) -> Mapping[str, Array]:
        """Return all that is kept over a restart, as arrays."""
        ...

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        ...

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Count the other replicas' states in; only where `mergeable`."""
        ...
