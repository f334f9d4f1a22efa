from __future__ import annotations

from pathlib import Path

import pytest
from host_machines import PI_FIRMWARE, Machine, cpufreq, zone

from scanflow_serve.runtime.host.thermal import Thermal, read_thermal
from scanflow_serve.runtime.host.tree import open_tree


def thermal(folder: Path, files: dict[str, str | bytes]) -> tuple[Thermal, list[str]]:
    tree = open_tree(Machine(files).at(folder))
    return read_thermal(tree), tree.warnings


@pytest.mark.parametrize(
    ("bits", "throttled", "reasons"),
    [
        ("0", False, ()),
        ("0x0", False, ()),
        ("throttled=0x1", True, ("under-voltage",)),
        ("2", True, ("frequency capped",)),
        ("4", True, ("throttled",)),
        ("8", True, ("soft temperature limit",)),
        ("50005", True, ("under-voltage", "throttled")),
        ("20000", False, ("frequency capped (since boot)",)),
        ("80004", True, ("throttled", "soft temperature limit (since boot)")),
    ],
)
def test_firmware_bits_tell_now_from_since_boot(
    bits: str, throttled: bool, reasons: tuple[str, ...], tmp_path: Path
) -> None:
    found, warnings = thermal(tmp_path, {PI_FIRMWARE: f"{bits}\n"})
    assert (found.throttled, found.reasons) == (throttled, reasons)
    assert warnings == []


def test_firmware_junk_is_unknown_with_a_warning(tmp_path: Path) -> None:
    found, warnings = thermal(tmp_path, {PI_FIRMWARE: "hot\n"})
    assert not found.throttled
    assert warnings == [f"{PI_FIRMWARE}: must be hexadecimal bits, got 'hot'. Taken as unknown."]


def test_mainline_kernel_s_under_voltage_alarm_counts(tmp_path: Path) -> None:
    folder = "/sys/class/hwmon/hwmon1"
    found, _ = thermal(
        tmp_path, {f"{folder}/name": "rpi_volt\n", f"{folder}/in0_lcrit_alarm": "1\n"}
    )
    assert (found.throttled, found.reasons) == (True, ("under-voltage",))


def test_cap_below_the_base_frequency_throttles(tmp_path: Path) -> None:
    found, _ = thermal(tmp_path, cpufreq(800_000, 4_700_000, base=2_800_000))
    assert found.reasons == ("frequency capped at 800 of 2800 MHz",)
    assert found.throttled


def test_cap_of_the_boost_alone_does_not_throttle(tmp_path: Path) -> None:
    found, _ = thermal(tmp_path, cpufreq(2_800_000, 4_700_000, base=2_800_000))
    assert not found.throttled


def test_cap_without_a_known_base_is_held_to_the_highest(tmp_path: Path) -> None:
    found, _ = thermal(tmp_path, cpufreq(600_000, 1_800_000))
    assert found.reasons == ("frequency capped at 600 of 1800 MHz",)


@pytest.mark.parametrize(("state", "throttled"), [("0", False), ("-1", False), ("3", True)])
def test_active_cooling_device_of_the_cpu_throttles(
    state: str, throttled: bool, tmp_path: Path
) -> None:
    folder = "/sys/class/thermal/cooling_device0"
    files: dict[str, str | bytes] = {f"{folder}/type": "Processor", f"{folder}/cur_state": state}
    assert thermal(tmp_path, files)[0].throttled is throttled


def test_fan_that_runs_does_not_throttle(tmp_path: Path) -> None:
    folder = "/sys/class/thermal/cooling_device0"
    found, _ = thermal(tmp_path, {f"{folder}/type": "pwm-fan", f"{folder}/cur_state": "3"})
    assert not found.throttled


def test_x86_counter_is_history(tmp_path: Path) -> None:
    path = "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
    found, _ = thermal(tmp_path, {path: "17\n"})
    assert (found.throttled, found.reasons) == (False, ("CPU thermal limit (since boot)",))


def test_temperature_is_that_of_the_hottest_cpu_zone(tmp_path: Path) -> None:
    files = zone(0, "acpitz", 90_000) | zone(1, "cpu0-thermal", 50_000)
    found, _ = thermal(tmp_path, files | zone(2, "cpu1-thermal", 61_499))
    assert found.temperature_c == 61.5


def test_only_unnamed_zone_is_taken(tmp_path: Path) -> None:
    assert thermal(tmp_path, zone(0, "acpitz", 40_000))[0].temperature_c == 40.0


@pytest.mark.parametrize("temp", ["", "hot", "1e999", "nan", "99999999"])
def test_absurd_temperature_is_unknown_with_a_warning(temp: str, tmp_path: Path) -> None:
    path = "/sys/class/thermal/thermal_zone0/temp"
    found, warnings = thermal(tmp_path, {**zone(0, "cpu", 1), path: temp})
    assert found.temperature_c is None
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}: must be a number")
