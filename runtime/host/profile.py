"""Reads a machine into a `HostProfile`: the only place that puts the subjects together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.host.accelerators import read_accelerators
from scanflow_serve.runtime.host.cgroup import granted
from scanflow_serve.runtime.host.container import read_container, read_orchestrator
from scanflow_serve.runtime.host.cpu import read_cpu, read_cpuinfo
from scanflow_serve.runtime.host.declared import read_declared
from scanflow_serve.runtime.host.hardware import read_hardware
from scanflow_serve.runtime.host.kind import decide_kind
from scanflow_serve.runtime.host.memory import granted_memory_mb, machine_memory_mb
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.power import read_power
from scanflow_serve.runtime.host.probes import NOTHING, THIS_PROCESS, Probes
from scanflow_serve.runtime.host.system import read_architecture, read_kernel, read_libc, read_os
from scanflow_serve.runtime.host.thermal import read_thermal
from scanflow_serve.runtime.host.tree import Tree, open_tree
from scanflow_serve.runtime.host.wheels import wheel_warnings


def profile_host(
    root: str | Path = "/",
    environ: Mapping[str, str] | None = None,
    probes: Probes | None = None,
) -> HostProfile:
    """Return the profile of the machine whose files lie below *root*.

    Nothing that is unreadable or absurd raises: it is unknown, and the profile's `warnings` say so.

    Args:
        root: ``/`` for this machine, else a folder that holds (some of) another one's files.
        environ: Default: this process's environment for ``/``, else empty.
        probes: What no file tells. Default: this process for ``/``, else nothing.

    Raises:
        UsageError: *root* is not a folder.
    """
    try:
        tree = open_tree(root)
    except OSError as error:
        raise UsageError(f"{root}: root must be a folder, got {error.strerror!r}.") from None
    here = tree.root == "/"
    return _profile(
        tree,
        environ if environ is not None else (os.environ if here else {}),
        probes if probes is not None else (THIS_PROCESS if here else NOTHING),
    )


def _profile(tree: Tree, environ: Mapping[str, str], probes: Probes) -> HostProfile:
    cpuinfo = read_cpuinfo(tree)
    arch = read_architecture(tree, cpuinfo, probes)
    hardware = read_hardware(tree, cpuinfo)
    grant = granted(tree)
    orchestrator = read_orchestrator(tree, environ, grant.groups)
    container = read_container(tree, environ, grant.groups, orchestrator)
    declared = read_declared(tree, environ)
    power = read_power(tree)
    thermal = read_thermal(tree)
    libc = read_libc(tree, arch.userland, probes)
    kind = decide_kind(
        tree,
        hardware,
        declared=declared.kind,
        orchestrator=orchestrator,
        container=container,
        battery=power.battery,
    )
    total_mb = machine_memory_mb(tree, probes)
    return HostProfile(
        kind=kind,
        arch=arch.userland,
        cpu=read_cpu(tree, cpuinfo, arch.userland, grant, probes),
        memory_mb=granted_memory_mb(tree, total_mb, grant.memory_mb),
        memory_total_mb=None if total_mb is None else round(total_mb, 1),
        model=hardware.model,
        os=read_os(tree, probes),
        kernel=read_kernel(tree),
        libc=libc,
        python=probes.python(),
        container=container,
        orchestrator=orchestrator,
        accelerators=read_accelerators(tree, hardware, probes),
        labels=declared.labels,
        throttled=thermal.throttled,
        throttle_reasons=thermal.reasons,
        temperature_c=thermal.temperature_c,
        on_battery=power.on_battery,
        warnings=(*tree.warnings, *wheel_warnings(arch, libc)),
    )
