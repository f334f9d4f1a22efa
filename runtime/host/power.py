"""Batteries, and whether the host lives on one."""

from __future__ import annotations

from dataclasses import dataclass

from scanflow_serve.runtime.host.tree import Tree

_SUPPLIES = "/sys/class/power_supply"


@dataclass(frozen=True, slots=True)
class Power:
    """What feeds the host.

    Attributes:
        battery: It has a battery of its own (not a mouse's, not an external UPS).
        on_battery: A battery or UPS is being drained, and no mains supply is connected.
    """

    battery: bool = False
    on_battery: bool = False


def read_power(tree: Tree) -> Power:
    """Return the state of /sys/class/power_supply.

    Source: Linux, Documentation/ABI/testing/sysfs-class-power.
    """
    battery = draining = mains = False
    for name in tree.names(_SUPPLIES):
        folder = f"{_SUPPLIES}/{name}"
        kind = tree.line(f"{folder}/type")
        if tree.line(f"{folder}/scope") == "Device":
            continue  # of a mouse or a headset
        if kind in ("Battery", "UPS"):
            battery = battery or kind == "Battery"
            draining = draining or tree.line(f"{folder}/status") == "Discharging"
        elif kind in ("Mains", "USB", "Wireless"):
            mains = mains or tree.line(f"{folder}/online") == "1"
    return Power(battery=battery, on_battery=draining and not mains)
