"""What control groups grant: CPU quota, CPU set and memory, of version 1, 2 and both at once.

A limit binds from any ancestor, so every level from our own group up to the mount is read.
Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/{memory,cpusets}.rst,
Documentation/scheduler/sched-bwc.rst; proc_pid_mountinfo(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from scanflow_serve.runtime.host.tree import MAX_CPUS, Tree

_V2 = ""  # stands for the unified hierarchy where a v1 controller has its name
_UNLIMITED = 2**60  # bytes; v1 writes LONG_MAX rounded to pages for "no limit"
_MAX_DEPTH = 64

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the control groups of this process allow; None where they set no limit."""

    quota_cores: float | None = None
    cpuset_cpus: int | None = None
    memory_mb: float | None = None
    groups: tuple[str, ...] = ()  # paths of our groups, such as ``/kubepods/burstable/pod…``


@dataclass(frozen=True, slots=True)
class _Mount:
    point: str
    root: str  # the group that the mount shows at its top
    controllers: frozenset[str]


def granted(tree: Tree) -> Grant:
    """Return the tightest limits of our groups and their ancestors."""
    groups = _groups(tree)
    quotas: list[float | None] = []
    cpusets: list[int | None] = []
    memories: list[float | None] = []
    for mount in _mounts(tree):
        for controller in sorted(mount.controllers):
            for folder in _levels(mount, groups.get(controller, "/")):
                if controller in (_V2, "cpu"):
                    quotas.append(_quota(tree, folder, v2=controller == _V2))
                if controller in (_V2, "cpuset"):
                    cpusets.append(_cpuset(tree, folder, v2=controller == _V2))
                if controller in (_V2, "memory"):
                    memories.append(_memory(tree, folder, v2=controller == _V2))
    return Grant(
        quota_cores=_least(quotas),
        cpuset_cpus=_least(cpusets),
        memory_mb=_least(memories),
        groups=tuple(sorted(set(groups.values()))),
    )


def _least(values: Iterable[_Number | None]) -> _Number | None:
    return min((value for value in values if value is not None), default=None)


def _groups(tree: Tree) -> dict[str, str]:
    """Return controller -> path of our group, from lines such as ``4:cpu,cpuacct:/docker/1f``."""
    groups = {}
    for line in (tree.text("/proc/self/cgroup") or "").splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            groups.update(dict.fromkeys(fields[1].split(","), fields[2][:4096]))
    return groups


def _mounts(tree: Tree) -> list[_Mount]:
    mounts = []
    for line in (tree.text("/proc/self/mountinfo") or "").splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(), right.split()
        if len(before) < 5 or not after or after[0] not in ("cgroup", "cgroup2"):
            continue
        options = after[-1].split(",") if after[0] == "cgroup" else [_V2]
        mounts.append(_Mount(_unescaped(before[4]), _unescaped(before[3]), frozenset(options)))
    return mounts or _usual_mounts(tree)


def _usual_mounts(tree: Tree) -> list[_Mount]:
    """Return the mounts as systemd makes them, for a tree without /proc/self/mountinfo."""
    top = "/sys/fs/cgroup"
    names = tree.names(top)
    if {"cgroup.controllers", "cpu.max", "memory.max"} & set(names):
        return [_Mount(top, "/", frozenset({_V2}))]
    return [_Mount(f"{top}/{name}", "/", frozenset(name.split(","))) for name in names]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _levels(mount: _Mount, group: str) -> Iterator[str]:
    """Yield the folders of *group* and of its ancestors, as far as the mount shows them."""
    try:
        inner = PurePosixPath(group).relative_to(mount.root)
    except ValueError:
        inner = PurePosixPath()  # a container: the mount's top is our own group
    if ".." in inner.parts or len(inner.parts) > _MAX_DEPTH:
        inner = PurePosixPath()  # outside of our cgroup namespace
    for level in (inner, *inner.parents):
        yield str(PurePosixPath(mount.point) / level)


def _quota(tree: Tree, folder: str, *, v2: bool) -> float | None:
    """Return CPU time per time, in cores."""
    if v2:
        quota, _, period = (tree.text(f"{folder}/cpu.max") or "max").partition(" ")
        where = f"{folder}/cpu.max"
    else:
        quota = tree.text(f"{folder}/cpu.cfs_quota_us") or "-1"
        period = tree.text(f"{folder}/cpu.cfs_period_us") or ""
        where = f"{folder}/cpu.cfs_quota_us"
    if quota in ("max", "-1"):
        return None
    quota_us = tree.checked(where, quota, 1, 1e12)
    # 100 ms is the kernel's default period; it takes 1 ms to 1 s.
    period_us = tree.checked(where, period or "100000", 1_000, 1_000_000)
    if quota_us is None or period_us is None:
        return None
    return min(round(quota_us / period_us, 3) or 0.001, float(MAX_CPUS))


def _cpuset(tree: Tree, folder: str, *, v2: bool) -> int | None:
    names = ("cpuset.cpus.effective",) if v2 else ("cpuset.effective_cpus", "cpuset.cpus")
    for name in names:
        text = tree.text(f"{folder}/{name}")
        if text:
            return tree.cpu_count(f"{folder}/{name}", text)
    return None


def _memory(tree: Tree, folder: str, *, v2: bool) -> float | None:
    """Return the limit in MiB."""
    path = f"{folder}/memory.max" if v2 else f"{folder}/memory.limit_in_bytes"
    text = tree.text(path)
    if text is None or text in ("max", "-1"):
        return None
    limit = tree.checked(path, text, 2**20, 2**64)
    return None if limit is None or limit >= _UNLIMITED else limit / 2**20
