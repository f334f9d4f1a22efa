"""A profile as rows for people."""

from __future__ import annotations

from scanflow_serve.runtime.host.model import Cpu, HostProfile

# The features that people look for, most telling first, as vendors write them.
_SPOKEN = {
    "amx_int8": "AMX INT8",
    "amx_bf16": "AMX BF16",
    "avx512_fp16": "AVX-512 FP16",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx2": "AVX2",
    "sve2": "SVE2",
    "sve": "SVE",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "dotprod": "dot product",
    "fphp": "FP16",
    "neon": "NEON",
}


def summary(profile: HostProfile) -> list[tuple[str, str]]:
    """Return (name, text) rows: always the same seven, then what else this host has to tell."""
    rows = [
        ("kind", _joined(profile.kind, profile.orchestrator, _contained(profile))),
        ("model", profile.model or "unknown"),
        ("cpu", _cpu(profile.cpu)),
        ("memory", _memory(profile)),
        ("accelerators", ", ".join(profile.accelerators) or "none"),
        ("system", _joined(profile.os or "unknown", profile.arch, profile.kernel, profile.libc)),
        ("throttling", _throttling(profile)),
    ]
    optional = {
        "python": profile.python,
        "caches": _caches(profile.cpu),
        "numa": f"{profile.cpu.numa_nodes} nodes" if profile.cpu.numa_nodes > 1 else "",
        "temperature": "" if profile.temperature_c is None else f"{profile.temperature_c:.1f} °C",
        "power": "on battery" if profile.on_battery else "",
        "labels": ", ".join(f"{key}={value}" for key, value in profile.labels.items()),
        "fingerprint": profile.fingerprint,
    }
    rows += [(name, text) for name, text in optional.items() if text]
    return rows + [("warning", warning) for warning in profile.warnings]


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _contained(profile: HostProfile) -> str:
    hidden = ("", profile.orchestrator)
    return "" if profile.container in hidden else f"in {profile.container}"


def _cpu(cpu: Cpu) -> str:
    cores = f"{cpu.cores:g} of {cpu.logical} cores" if cpu.cores != cpu.logical else ""
    whole = f"{cpu.logical} {'core' if cpu.logical == 1 else 'cores'}"
    speed = f"up to {cpu.max_mhz:,.0f} MHz" if cpu.max_mhz else ""
    spoken = [text for name, text in _SPOKEN.items() if name in cpu.features]
    return _joined(cpu.model, cores or whole, speed, *spoken)


def _memory(profile: HostProfile) -> str:
    if not profile.memory_mb:
        return "unknown"
    total = profile.memory_total_mb
    if total is None or profile.memory_mb >= total:
        return f"{profile.memory_mb:,.0f} MiB"
    return f"{profile.memory_mb:,.0f} of {total:,.0f} MiB (cgroup)"


def _caches(cpu: Cpu) -> str:
    sizes = {"L1d": cpu.l1d_kb, "L2": cpu.l2_kb, "L3": cpu.l3_kb}
    return ", ".join(f"{name} {size:,} KiB" for name, size in sizes.items() if size)


def _throttling(profile: HostProfile) -> str:
    reasons = ", ".join(profile.throttle_reasons)
    if profile.throttled:
        return f"yes: {reasons}"
    return f"not now; {reasons}" if reasons else "no"
