"""What was measured of a variant or a candidate on one host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanflow_serve.runtime.tensors import OutputKind


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency of one call at one batch size, in ms."""

    p50_ms: float
    p95_ms: float
    samples: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Figures of one variant or candidate, as measured on one host.

    Attributes:
        load_s: Seconds to load it.
        memory_mb: Resident memory that loading and running it added.
        latency: Batch size -> latency; always holds 1 (or the model's fixed batch size).
        throughput_rps: Sustained rows per second at the best batch size, with as many calls at
            once as the host's cores hold.
        best_batch: That batch size.
        size_mb: Of the artifacts' files.
        energy_mj: Millijoules per row; None where no counter exists.
        accuracy: Value of the validation metric; None without validation data.
        accuracy_rows: Rows that it was measured on.
        declared: `accuracy` comes from the policy, not from a measurement.
        kind: What the classification output holds.
        unscored: Why `accuracy` could not be measured, although there is validation data.
        contention: Factor on the latency of a call while as many run as the host's cores hold,
            1 at least; None: not measured.
    """

    load_s: float
    memory_mb: float
    latency: Mapping[int, Latency]
    throughput_rps: float
    best_batch: int
    size_mb: float
    energy_mj: float | None = None
    accuracy: float | None = None
    accuracy_rows: int = 0
    declared: bool = False
    kind: OutputKind = "other"
    unscored: str = ""
    contention: float | None = None

    @property
    def latency_p95_ms(self) -> float:
        """Return the p95 latency at the smallest measured batch size, in ms."""
        return self.latency[min(self.latency)].p95_ms

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "load_s": self.load_s,
            "memory_mb": self.memory_mb,
            "latency": {
                str(n): {"p50_ms": at.p50_ms, "p95_ms": at.p95_ms, "samples": at.samples}
                for n, at in sorted(self.latency.items())
            },
            "throughput_rps": self.throughput_rps,
            "best_batch": self.best_batch,
            "size_mb": self.size_mb,
            "energy_mj": self.energy_mj,
            "accuracy": self.accuracy,
            "accuracy_rows": self.accuracy_rows,
            "declared": self.declared,
            "kind": self.kind,
            "unscored": self.unscored,
            "contention": self.contention,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measurement:
        """Return the measurement whose JSON form is *value*."""
        latency = {int(n): Latency(**at) for n, at in value["latency"].items()}
        return cls(**{**value, "latency": latency})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a variant or candidate has no figures, or may not be used.

    Attributes:
        code: Why it could not be used: ``not_installed`` | ``unsupported`` | ``not_built`` |
            ``failed`` | ``verification`` | ``budget`` (no time to measure it) | ``unmeasured``;
            why it was not chosen: ``dominated`` (alone no better than another) |
            ``constraint`` (breaks a bound) | ``objective`` (another is better).
        reason: One sentence for people, with the figures that decided.
    """

    code: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"code": self.code, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Measurements:
    """All that is known of the candidates of one policy on one host, keyed by `Candidate.id`."""

    host: str  # HostProfile.fingerprint
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "host": self.host,
            "measured": {key: each.to_json() for key, each in sorted(self.measured.items())},
            "refused": {key: each.to_json() for key, each in sorted(self.refused.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measurements:
        """Return the measurements whose JSON form is *value*."""
        return cls(
            host=value["host"],
            measured={key: Measurement.from_json(m) for key, m in value["measured"].items()},
            refused={key: Refusal(**refusal) for key, refusal in value["refused"].items()},
        )
