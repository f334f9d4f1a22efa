"""The memory that this process may use."""

from __future__ import annotations

from scanflow_serve.runtime.host.probes import Probes
from scanflow_serve.runtime.host.tree import Tree

_MAX_KB = 2**47  # 128 PiB, the address space of x86_64


def machine_memory_mb(tree: Tree, probes: Probes) -> float | None:
    """Return the machine's memory in MiB, whatever the control groups grant of it."""
    text = tree.text("/proc/meminfo")
    if text is None:
        return probes.memory_mb()
    for line in text.splitlines():
        if line.startswith("MemTotal:"):
            number = line.removeprefix("MemTotal:").strip().removesuffix("kB").strip()
            total = tree.checked("/proc/meminfo: MemTotal", number, 1, _MAX_KB)
            return None if total is None else total / 1024
    tree.warn("/proc/meminfo: must have MemTotal, got none. Memory is taken as unknown.")
    return None


def granted_memory_mb(tree: Tree, total_mb: float | None, limit_mb: float | None) -> float:
    """Return the lesser of the machine's memory and the limit, in MiB; 0 if neither is known."""
    known = [mb for mb in (total_mb, limit_mb) if mb is not None]
    if not known:
        tree.warn(
            "memory: neither /proc/meminfo nor a control group tells it. "
            "host.memory_mb is 0, so that targets for small devices hold."
        )
    return round(min(known, default=0.0), 1)
