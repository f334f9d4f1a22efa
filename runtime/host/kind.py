"""The kind of device, as the author of a policy thinks of it.

The first of these that holds decides:

1. what the operator declares (``SCANFLOW_DEVICE_KIND``, ``/etc/scanflow/device.yaml``);
2. ``cluster``: Kubernetes, Swarm or Slurm scheduled us. The scheduler can move us to another
   board tomorrow, so that it prevails over the board;
3. ``raspberry-pi``, ``jetson``: the board, also from inside a container on it, because a
   container has the board's speed and its throttling;
4. ``container``: on any other machine;
5. ``server``: a virtual machine (its chassis is made up: Hyper-V says desktop);
6. ``laptop``, ``desktop``, ``server`` by the SMBIOS chassis type; then a battery makes a laptop;
7. ``unknown``, with a warning that asks for a declaration: no target holds by mistake, and the
   policy's "otherwise" takes it.
"""

from __future__ import annotations

from scanflow_serve.runtime.host.hardware import Hardware
from scanflow_serve.runtime.host.tree import Tree

# Source: DMTF DSP0134 (SMBIOS) 3.7, table 17, "System Enclosure or Chassis Types".
_CHASSIS: dict[int, str] = {
    **dict.fromkeys((8, 9, 10, 11, 14, 30, 31, 32), "laptop"),  # portable … tablet, convertible
    **dict.fromkeys((3, 4, 5, 6, 7, 13, 15, 16, 24, 35, 36), "desktop"),  # tower … mini, stick PC
    **dict.fromkeys((17, 23, 25, 28, 29), "server"),  # main server, rack mount, blade
}


def decide_kind(
    tree: Tree,
    hardware: Hardware,
    *,
    declared: str = "",
    orchestrator: str = "",
    container: str = "",
    battery: bool = False,
) -> str:
    """Return the kind; see the module for the order."""
    if declared:
        return declared
    if orchestrator:
        return "cluster"
    if hardware.family:
        return hardware.family
    if container:
        return "container"
    if "microsoft" in tree.line("/proc/sys/kernel/osrelease").lower():
        return "laptop" if battery else "desktop"  # Windows' Linux subsystem, a VM on a PC
    if hardware.virtual:
        return "server"
    found = _CHASSIS.get(hardware.chassis) or ("laptop" if battery else "")
    if not found:
        tree.warn(
            "kind: neither a device tree nor DMI tells the kind of device. host.kind is "
            "'unknown'. Set SCANFLOW_DEVICE_KIND, or 'kind' in /etc/scanflow/device.yaml."
        )
    return found or "unknown"
