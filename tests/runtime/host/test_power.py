from __future__ import annotations

from pathlib import Path

import pytest
from host_machines import DESKTOP, LAPTOP_ON_BATTERY

from scanflow_serve.runtime.host.profile import profile_host

SUPPLY = "/sys/class/power_supply"


def test_laptop_on_mains_is_not_on_battery_though_it_drains(tmp_path: Path) -> None:
    """Some firmwares discharge down to a threshold while plugged in."""
    plugged = LAPTOP_ON_BATTERY.but({f"{SUPPLY}/AC/online": "1\n"})
    assert not profile_host(plugged.at(tmp_path)).on_battery


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_battery_that_is_not_drained_does_not_count(status: str, tmp_path: Path) -> None:
    resting = LAPTOP_ON_BATTERY.but({f"{SUPPLY}/BAT0/status": f"{status}\n"})
    assert not profile_host(resting.at(tmp_path)).on_battery


def test_desktop_on_its_ups_is_on_battery_and_no_laptop(tmp_path: Path) -> None:
    ups: dict[str, str | bytes] = {
        f"{SUPPLY}/ups0/type": "UPS\n",
        f"{SUPPLY}/ups0/status": "Discharging\n",
    }
    host = profile_host(DESKTOP.but(ups).at(tmp_path))
    assert (host.kind, host.on_battery) == ("desktop", True)
