"""The processor: model, instruction-set features, caches, and the cores that are granted.

Features carry the names of /proc/cpuinfo, but only those that decide how fast a network runs:
x86: avx, avx2, fma, f16c, avx_vnni, avx512f, avx512bw, avx512vl, avx512_vnni, avx512_bf16,
avx512_fp16, amx_tile, amx_int8, amx_bf16, amx_fp16.
Arm: neon, asimd, asimddp, asimdhp, fphp, i8mm, bf16, sve, sve2, sme; with two aliases that
people write: `neon` wherever there is asimd, `dotprod` wherever there is asimddp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from scanflow_serve.runtime.host.cgroup import Grant
from scanflow_serve.runtime.host.model import Cpu
from scanflow_serve.runtime.host.probes import Probes
from scanflow_serve.runtime.host.tree import Tree, printable

X86_FEATURES = frozenset(
    {"avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"}
    | {"avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"}
)
ARM_FEATURES = frozenset(
    {"neon", "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2", "sme"}
)
FEATURES = X86_FEATURES | ARM_FEATURES
ALIASES = {"asimd": "neon", "asimddp": "dotprod"}

# "CPU part" of implementer 0x41 (Arm). Source: Linux, arch/arm64/include/asm/cputype.h.
_ARM_PARTS = {
    0xB76: "ARM1176",
    0xC07: "Cortex-A7",
    0xC08: "Cortex-A8",
    0xC09: "Cortex-A9",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}

CpuInfo = Mapping[str, tuple[str, ...]]  # key -> its values, one a processor


def read_cpuinfo(tree: Tree) -> CpuInfo:
    """Return what /proc/cpuinfo says, by key."""
    values: dict[str, list[str]] = {}
    for line in (tree.text("/proc/cpuinfo") or "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values.setdefault(key.strip(), []).append(value.strip())
    return {key: tuple(items) for key, items in values.items()}


def read_cpu(tree: Tree, cpuinfo: CpuInfo, arch: str, grant: Grant, probes: Probes) -> Cpu:
    """Return the processor, with the cores that affinity and control groups grant."""
    affinity = probes.affinity() or _allowed_cpus(tree)
    logical = _logical(tree, cpuinfo) or affinity
    limits = [limit for limit in (affinity, grant.cpuset_cpus, grant.quota_cores, logical) if limit]
    if not limits:
        tree.warn("cpu: no file tells the number of cores. host.cpu.cores is 1.")
    return Cpu(
        cores=float(min(limits, default=1)),
        model=_model(cpuinfo),
        features=_features(cpuinfo, arch),
        logical=logical or 1,
        l1d_kb=_cache_kb(tree, 1),
        l2_kb=_cache_kb(tree, 2),
        l3_kb=_cache_kb(tree, 3),
        numa_nodes=_listed(tree, "/sys/devices/system/node/online") or 1,
        max_mhz=_max_mhz(tree),
    )


def _listed(tree: Tree, path: str) -> int | None:
    text = tree.text(path)
    return tree.cpu_count(path, text) if text else None


def _logical(tree: Tree, cpuinfo: CpuInfo) -> int | None:
    online = _listed(tree, "/sys/devices/system/cpu/online")
    return online or len(cpuinfo.get("processor", ())) or None


def _allowed_cpus(tree: Tree) -> int | None:
    for line in (tree.text("/proc/self/status") or "").splitlines():
        key, _, value = line.partition(":")
        if key == "Cpus_allowed_list":
            return tree.cpu_count("/proc/self/status: Cpus_allowed_list", value)
    return None


def _features(cpuinfo: CpuInfo, arch: str) -> tuple[str, ...]:
    # Cores of one machine may differ: what only some have can't be relied on.
    lists = cpuinfo.get("flags") or cpuinfo.get("Features") or ()
    if lists:
        found = set.intersection(*(set(text.lower().split()) for text in set(lists))) & FEATURES
    else:
        found = {"asimd"} if arch == "aarch64" else set()  # part of the architecture
    return tuple(sorted(found | {ALIASES[name] for name in found & set(ALIASES)}))


def _model(cpuinfo: CpuInfo) -> str:
    """Return such as ``Intel(R) Xeon(R) …``, ``Cortex-A72`` or ``Cortex-A55 + Cortex-A76``."""
    parts = []
    for implementer, part in zip(
        cpuinfo.get("CPU implementer", ()), cpuinfo.get("CPU part", ()), strict=False
    ):
        if implementer == "0x41" and re.fullmatch(r"0x[0-9a-f]{3}", part):
            parts.append(_ARM_PARTS.get(int(part, 16), f"Arm {part}"))
    if parts:
        return " + ".join(sorted(set(parts)))
    names = cpuinfo.get("model name") or cpuinfo.get("Processor") or ("",)
    return printable(names[0])


def _cache_kb(tree: Tree, level: int) -> int | None:
    """Return the size of the data or unified cache that CPU 0 sees at *level*, in KiB."""
    folder = "/sys/devices/system/cpu/cpu0/cache"
    for name in tree.names(folder):
        index = f"{folder}/{name}"
        if tree.text(f"{index}/level") != str(level):
            continue
        if tree.text(f"{index}/type") not in ("Data", "Unified"):
            continue
        size = tree.text(f"{index}/size") or ""
        kb = tree.checked(f"{index}/size", size.removesuffix("K"), 1, 2**24)  # 16 GiB
        return None if kb is None else int(kb)
    return None


def _max_mhz(tree: Tree) -> float | None:
    """Return the highest frequency that any core can reach, in MHz."""
    folder = "/sys/devices/system/cpu/cpufreq"
    found = [
        tree.number(f"{folder}/{policy}/cpuinfo_max_freq", 1_000, 100_000_000)  # kHz
        for policy in tree.names(folder)
    ]
    return max((khz / 1000 for khz in found if khz is not None), default=None)
