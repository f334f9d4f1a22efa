"""Energy that the machine uses, where it has a counter.

Source: Linux, Documentation/power/powercap/powercap.rst (RAPL: ``energy_uj`` counts up and wraps
at ``max_energy_range_uj``) and Documentation/hwmon/sysfs-interface.rst (``power1_input`` in µW,
``in1_input`` in mV, ``curr1_input`` in mA), which INA226 and INA3221 drive on boards.
"""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SENSORS = ("ina226", "ina3221", "ina219", "ina2xx")
SAMPLE_S = 0.01


class EnergyMeter(Protocol):
    """Counts the energy between `start` and `stop`."""

    name: str

    def start(self) -> None:
        """Begin a window."""
        ...

    def stop(self) -> float:
        """Return what was used since `start`, in mJ."""
        ...


def find_meter(root: Path = Path("/")) -> EnergyMeter | None:
    """Return the host's meter, or None where it has none that may be read.

    Args:
        root: Of the file tree that holds ``sys``.
    """
    domains = [Domain.at(zone) for zone in sorted((root / "sys/class/powercap").glob("*-rapl:*"))]
    # intel-rapl:0 is a package; intel-rapl:0:0, the cores, is part of it.
    packages = [domain for domain in domains if domain and domain.path.name.count(":") == 1]
    if packages:
        return RaplMeter(tuple(packages))
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        name = _text(chip / "name")
        if name in SENSORS and _power_mw(chip) is not None:
            return SensorMeter(name, chip)
    return None


@dataclass(frozen=True, slots=True)
class Domain:
    """A RAPL package: its counter and where that wraps, in µJ."""

    path: Path
    range_uj: int

    @classmethod
    def at(cls, path: Path) -> Domain | None:
        """Return the domain in *path*; None if its counter can't be read (often root only)."""
        range_uj = _number(path / "max_energy_range_uj")
        readable = _number(path / "energy_uj") is not None
        return cls(path, range_uj) if readable and range_uj else None

    def energy_uj(self) -> int:
        """Return the counter."""
        return _number(self.path / "energy_uj") or 0


class RaplMeter:
    """Sums the packages' counters."""

    name = "rapl"

    def __init__(self, packages: tuple[Domain, ...]) -> None:
        self._packages = packages
        self._before: list[int] = []

    def start(self) -> None:
        """Begin a window."""
        self._before = [package.energy_uj() for package in self._packages]

    def stop(self) -> float:
        """Return what was used since `start`, in mJ; a counter may have wrapped once."""
        used_uj = sum(
            (package.energy_uj() - before) % (package.range_uj + 1)
            for package, before in zip(self._packages, self._before, strict=True)
        )
        return used_uj / 1e3


class SensorMeter:
    """Samples a power sensor and integrates over time."""

    def __init__(self, name: str, chip: Path) -> None:
        self.name = name
        self._chip = chip
        self._stopped = threading.Event()
        self._sampler: threading.Thread | None = None
        self._samples_mw: list[float] = []
        self._started = 0.0

    def start(self) -> None:
        """Begin a window."""
        self._stopped.clear()
        self._samples_mw = [_power_mw(self._chip) or 0.0]
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._started = time.monotonic()
        self._sampler.start()

    def stop(self) -> float:
        """Return what was used since `start`, in mJ."""
        elapsed_s = time.monotonic() - self._started
        self._stopped.set()
        if self._sampler is not None:
            self._sampler.join()
        return statistics.fmean(self._samples_mw) * elapsed_s

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_S):
            if (power := _power_mw(self._chip)) is not None:
                self._samples_mw.append(power)


def _power_mw(chip: Path) -> float | None:
    """Return the power in mW: the sensor's own figure, else voltage times current."""
    if (micro_watts := _number(chip / "power1_input")) is not None:
        return micro_watts / 1e3
    channels = (
        (_number(chip / f"in{n}_input"), _number(chip / f"curr{n}_input")) for n in (1, 2, 3)
    )
    for volts_mv, current_ma in channels:  # channel 1 is the whole board on Jetson
        if volts_mv is not None and current_ma is not None:
            return volts_mv * current_ma / 1e3
    return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
