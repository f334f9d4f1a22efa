"""The frozen profile of a host: what conditions may ask, and what measurements depend on."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import ConfigDict, TypeAdapter

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor, as granted.

    Attributes:
        cores: What cgroup quota, cpuset and affinity grant; may be fractional, such as 0.5.
        features: Lower-case ISA features, sorted: ``avx2``, ``avx512f``, ``avx512_vnni``,
            ``avx512_bf16``, ``amx_tile``, ``amx_bf16``, ``amx_int8``, ``neon``, ``asimddp``,
            ``fphp``, ``i8mm``, ``bf16``, ``sve``, ...; the whole list: `cpu.FEATURES`.
        logical: CPUs of the whole machine.
        max_mhz: The highest frequency that a core can reach.
    """

    __pydantic_config__ = _STRICT

    cores: float
    model: str = ""
    features: tuple[str, ...] = ()
    logical: int = 1
    l1d_kb: int | None = None
    l2_kb: int | None = None
    l3_kb: int | None = None
    numa_nodes: int = 1
    max_mhz: float | None = None


@dataclass(frozen=True, slots=True)
class HostProfile:
    """One host, as far as it could be read; what could not is "unknown" and has a warning.

    Attributes:
        kind: raspberry-pi | jetson | desktop | laptop | server | cluster | container | unknown,
            or what the operator declared; `kind` (the module) tells the order.
        arch: Of the userland, which is what wheels must fit.
        orchestrator: kubernetes | swarm | slurm | "".
        memory_mb: What the cgroup grants, in MiB; 0 if unknown.
        memory_total_mb: Of the whole machine, in MiB.
        accelerators: ``nvidia``, ``openvino:GPU``, ``onnxruntime:CUDAExecutionProvider``, ...
        throttled: Something slows the processor now.
        throttle_reasons: What does so, then what did "(since boot)".
        temperature_c: Of the hottest CPU zone; None if unknown.
    """

    __pydantic_config__ = _STRICT

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
    memory_total_mb: float | None = None

    @property
    def fingerprint(self) -> str:
        """Return a short hash of what latency depends on: hardware and grants, not temperature.

        The same on every run: MemTotal and frequencies, which move a little from boot to boot,
        count in coarse steps or not at all.
        """
        cpu = asdict(self.cpu)
        del cpu["max_mhz"]
        cpu["cores"] = float(self.cpu.cores)  # 4 and 4.0 are the same grant, but not as JSON
        stable = {
            "arch": self.arch,
            "model": self.model,
            "cpu": cpu,
            # Half powers of two. Machines have a few per cent less than 2^n GiB, so that
            # their MemTotal lies far from an edge.
            "memory": math.ceil(2 * math.log2(max(self.memory_mb, 1))),
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
