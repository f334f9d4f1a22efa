"""The frozen profile of a host: what conditions may ask, and what measurements depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor, as granted.

    Attributes:
        cores: What cgroup quota, cpuset and affinity grant; may be fractional, such as 0.5.
        features: Lower-case ISA features, sorted: ``avx2``, ``avx512f``, ``avx512_vnni``,
            ``avx512_bf16``, ``amx_tile``, ``amx_bf16``, ``amx_int8``, ``neon``, ``asimddp``,
            ``fphp``, ``i8mm``, ``bf16``, ``sve``, ...
    """

    cores: float
    model: str = ""
    features: tuple[str, ...] = ()
    logical: int = 1  # of the whole machine
    l1d_kb: int | None = None
    l2_kb: int | None = None
    l3_kb: int | None = None
    numa_nodes: int = 1
    max_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class HostProfile:
    """One host, as far as it could be read; what could not is "unknown" and has a warning.

    Attributes:
        kind: raspberry-pi | jetson | desktop | laptop | server | cluster | container, or what
            the operator declared.
        orchestrator: kubernetes | swarm | slurm | "".
        memory_mb: What the cgroup grants, in MiB.
        accelerators: ``nvidia``, ``openvino:GPU``, ``onnxruntime:CUDAExecutionProvider``, ...
        temperature_c: Of the hottest CPU zone; None if unknown.
    """

    kind: str
    arch: str
    cpu: Cpu
    memory_mb: float
    model: str = ""
    os: str = ""
    kernel: str = ""
    libc: str = ""
    python: str = ""
    container: str = ""  # docker | podman | kubernetes | lxc | ... | ""
    orchestrator: str = ""
    accelerators: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    throttled: bool = False
    throttle_reasons: tuple[str, ...] = ()
    temperature_c: float | None = None
    on_battery: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Return a short hash of what latency depends on: hardware and grants, not temperature."""
        stable = {
            "arch": self.arch,
            "model": self.model,
            "cpu": asdict(self.cpu),
            "memory_mb": round(self.memory_mb / 64),
            "accelerators": self.accelerators,
            "libc": self.libc,
        }
        text = json.dumps(stable, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return json.loads(json.dumps(asdict(self), default=dict)) | {  # type: ignore[no-any-return]
            "fingerprint": self.fingerprint
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HostProfile:
        """Return the profile whose JSON form is *value*.

        Raises:
            pydantic.ValidationError: A member is missing, unknown or of the wrong type.
        """
        fields = {key: item for key, item in value.items() if key != "fingerprint"}
        return TypeAdapter(cls).validate_python(fields)

    def variables(self) -> dict[str, Any]:
        """Return the ``host`` variable of conditions; members as in `policies.vocabulary.HOST`."""
        return {
            "kind": self.kind,
            "model": self.model,
            "arch": self.arch,
            "os": self.os,
            "labels": dict(self.labels),
            "cpu": {
                "cores": float(self.cpu.cores),
                "features": list(self.cpu.features),
                "model": self.cpu.model,
            },
            "memory_mb": float(self.memory_mb),
            "accelerators": list(self.accelerators),
            "throttled": self.throttled,
            "on_battery": self.on_battery,
        }
