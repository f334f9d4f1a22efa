"""When requests come: loads that are described by a few figures, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import takewhile
from typing import TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as validated

from scanflow_serve.policies.errors import UsageError

MOST = 1_000_000  # arrivals; a description with a slip in it must not fill the memory
SECONDS = 60.0

Pieces: TypeAlias = Iterator[tuple[float, float]]  # length in s, arrivals per s


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request.

    Attributes:
        at: In s from the trace's beginning.
        deadline_ms: Budget from arrival; None: the policy's default.
        priority: Lower runs first.
    """

    at: float
    rows: int = 1
    client: str = ""
    deadline_ms: float | None = None
    priority: int = 0


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Load:
    """A Poisson process whose rate is constant by pieces; the kinds say which pieces."""

    seconds: float = Field(default=SECONDS, gt=0, le=86_400)
    rows: int = Field(default=1, ge=1, le=4096)

    def pieces(self, draw: random.Random) -> Pieces:
        """Yield lengths and rates, together at least as long as the load."""
        raise NotImplementedError

    def times(self, draw: random.Random) -> Iterator[float]:
        """Yield arrivals in s, in order, for ever or a little beyond the load's end."""
        begin = 0.0
        for length, rate in self.pieces(draw):
            at = begin
            while rate > 0 and (at := at + draw.expovariate(rate)) < begin + length:
                yield at  # exponential gaps have no memory: each piece starts anew
            begin += length


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Poisson(Load):
    """Independent clients, many of them."""

    rate: float = Field(gt=0)

    def pieces(self, draw: random.Random) -> Pieces:
        """Yield one piece."""
        yield self.seconds, self.rate


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Gamma(Load):
    """Gaps of a gamma distribution: bursts where *cv2*, their squared variation, is above 1."""

    rate: float = Field(gt=0)
    cv2: float = Field(gt=0, le=1000)

    def times(self, draw: random.Random) -> Iterator[float]:
        """Yield arrivals in s, in order, for ever."""
        at = 0.0
        while True:
            at += draw.gammavariate(1 / self.cv2, self.cv2 / self.rate)
            yield at


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Mmpp(Load):
    """Two rates that take turns, each for an exponential time with mean *dwell_s*."""

    low: float = Field(ge=0)
    high: float = Field(gt=0)
    dwell_s: float = Field(default=5.0, gt=0)

    def pieces(self, draw: random.Random) -> Pieces:
        """Yield low and high in turn, for ever."""
        while True:
            yield draw.expovariate(1 / self.dwell_s), self.low
            yield draw.expovariate(1 / self.dwell_s), self.high


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Step(Load):
    """One rate until the second *at*, then another."""

    low: float = Field(ge=0)
    high: float = Field(ge=0)
    at: float = Field(ge=0)

    def pieces(self, draw: random.Random) -> Pieces:
        """Yield both."""
        yield self.at, self.low
        yield self.seconds, self.high


@validated(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))
class Spike(Load):
    """One rate, with a peak *width* seconds long from the second *at*."""

    base: float = Field(ge=0)
    peak: float = Field(gt=0)
    at: float = Field(ge=0)
    width: float = Field(gt=0)

    def pieces(self, draw: random.Random) -> Pieces:
        """Yield base, peak, base."""
        yield self.at, self.base
        yield self.width, self.peak
        yield self.seconds, self.base


LOADS: dict[str, type[Load]] = {
    "poisson": Poisson,
    "gamma": Gamma,
    "mmpp": Mmpp,
    "step": Step,
    "spike": Spike,
}
EXAMPLES = {
    "poisson": "poisson:rate=200,seconds=60",
    "gamma": "gamma:rate=200,cv2=4",
    "mmpp": "mmpp:low=50,high=400,dwell_s=5",
    "step": "step:low=50,high=400,at=30",
    "spike": "spike:base=50,peak=800,at=20,width=5",
}


def describes(text: str) -> bool:
    """Return whether *text* describes a load, well or not, and is no path."""
    return text.partition(":")[0] in LOADS


def parse(text: str) -> Load:
    """Return the load that *text* describes, such as ``poisson:rate=200,seconds=60``.

    Raises:
        UsageError: A figure is missing, unknown or out of its range.

    >>> parse("poisson:rate=200,seconds=60").seconds
    60.0
    """
    kind, _, body = text.partition(":")
    given: dict[str, str] = {}
    for pair in filter(None, body.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or key in given:
            raise _fault(kind, f"must be KEY=VALUE, each key once, got {pair!r}")
        given[key] = value
    try:
        load: Load = TypeAdapter(LOADS[kind]).validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join(reversed([field.name for field in fields(LOADS[kind])]))
        got = "nothing" if first["type"] == "missing" else repr(first["input"])
        raise _fault(kind, f"{where}: {first['msg']}, got {got}; it takes {known}") from None
    return load


def drawn(load: Load, seed: int, *, seconds: float | None = None) -> list[Arrival]:
    """Return the arrivals of *load*; those of one seed are always the same.

    Args:
        seconds: Length, in place of the load's own.

    Raises:
        UsageError: They are too many, or none.
    """
    end = load.seconds if seconds is None else seconds
    load = type(load)(**(asdict(load) | {"seconds": end}))
    draw = random.Random(f"arrivals {seed}")  # a stream of its own: calls have another
    found: list[Arrival] = []
    for at in takewhile(lambda at: at < end, load.times(draw)):
        found.append(Arrival(at, load.rows))
        if len(found) > MOST:
            raise UsageError(
                f"--trace: must have at most {MOST:,} arrivals, got more within {at:.4g} s. "
                "Lower the rate, or shorten it by --seconds."
            )
    if not found:
        raise UsageError(
            f"--trace: must have an arrival within its {end:g} s, got none. "
            "Raise the rate, or lengthen it by --seconds."
        )
    return found


def _fault(kind: str, rule: str) -> UsageError:
    return UsageError(f"--trace: {kind}: {rule}. Write for example {EXAMPLES[kind]}.")
