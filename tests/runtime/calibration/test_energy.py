from __future__ import annotations

from pathlib import Path

import pytest

from scanflow_serve.runtime.calibration import energy


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / "sys/class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


def rapl(package: int, energy_uj: int) -> dict[str, object]:
    zone = f"powercap/intel-rapl:{package}"
    return {
        f"{zone}/energy_uj": energy_uj,
        f"{zone}/max_energy_range_uj": 1_000_000,
        f"powercap/intel-rapl:{package}:0/energy_uj": energy_uj // 2,
        f"powercap/intel-rapl:{package}:0/max_energy_range_uj": 1_000_000,
    }


def test_host_without_counter_has_no_meter(tmp_path: Path) -> None:
    assert energy.find_meter(tmp_path) is None


def test_rapl_packages_are_summed_and_their_parts_not_counted_twice(tmp_path: Path) -> None:
    write(tmp_path, rapl(0, 100_000) | rapl(1, 500_000))
    meter = energy.find_meter(tmp_path)
    assert meter is not None
    meter.start()
    write(tmp_path, rapl(0, 130_000) | rapl(1, 520_000))
    assert meter.name == "rapl"
    assert meter.stop() == pytest.approx(50.0)


def test_wrapped_rapl_counter_is_unwrapped(tmp_path: Path) -> None:
    write(tmp_path, rapl(0, 999_000))
    meter = energy.find_meter(tmp_path)
    assert meter is not None
    meter.start()
    write(tmp_path, rapl(0, 1_000))
    assert meter.stop() == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("text", ["", "garbage"])
def test_unreadable_rapl_counter_is_no_meter(tmp_path: Path, text: str) -> None:
    write(tmp_path, rapl(0, 1) | {"powercap/intel-rapl:0/energy_uj": text})
    assert energy.find_meter(tmp_path) is None


@pytest.mark.parametrize(
    "sensor",
    [
        {"name": "ina226", "power1_input": 5_000_000},
        {"name": "ina3221", "in1_input": 5_000, "curr1_input": 1_000},
    ],
)
def test_power_sensor_is_integrated_over_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sensor: dict[str, object]
) -> None:
    write(tmp_path, {f"hwmon/hwmon0/{name}": value for name, value in sensor.items()})
    meter = energy.find_meter(tmp_path)
    assert meter is not None
    now = iter([100.0, 102.0])
    monkeypatch.setattr(energy.time, "monotonic", lambda: next(now))
    meter.start()
    assert meter.stop() == pytest.approx(10_000)  # 5 W for 2 s
    assert meter.name == sensor["name"]


def test_other_hwmon_chips_are_not_taken_for_a_board_sensor(tmp_path: Path) -> None:
    write(tmp_path, {"hwmon/hwmon0/name": "nvme", "hwmon/hwmon0/power1_input": 1})
    assert energy.find_meter(tmp_path) is None
