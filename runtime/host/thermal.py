"""Temperature, and what slows the processor down: now, or since boot."""

from __future__ import annotations

from dataclasses import dataclass

from scanflow_serve.runtime.host.tree import Tree

SINCE_BOOT = " (since boot)"

_ZONES = "/sys/class/thermal"
_HWMON = "/sys/class/hwmon"
_CPU_ZONES = ("cpu", "x86_pkg_temp", "soc", "package", "big", "little", "tj-thermal")
_CPU_SENSORS = frozenset({"coretemp", "k10temp", "zenpower", "cpu_thermal"})
_OFF_MC = -256_000  # millidegrees; what Tegra says of a zone whose unit is off

# Bits of the Raspberry Pi firmware; 16 higher the same, since boot.
# Source: raspberrypi.com/documentation/computers/os.html#get_throttled
_FIRMWARE_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}


@dataclass(frozen=True, slots=True)
class Thermal:
    """How hot the processor is, and what slows it.

    Attributes:
        throttled: One of the reasons holds now.
        reasons: What holds now, then what held since boot, marked `SINCE_BOOT`.
    """

    temperature_c: float | None
    throttled: bool
    reasons: tuple[str, ...]


def read_thermal(tree: Tree) -> Thermal:
    """Return the temperature of the hottest CPU zone, and the reasons of throttling."""
    now, before = _firmware(tree)
    now += _capped(tree) + _cooled(tree)
    if _under_voltage_alarm(tree) and "under-voltage" not in now:
        now.append("under-voltage")
    if _x86_throttle_count(tree):
        before.append("CPU thermal limit")
    past = [reason + SINCE_BOOT for reason in before]
    return Thermal(_temperature_c(tree), bool(now), tuple(now + past))


def _temperature_c(tree: Tree) -> float | None:
    zones: dict[str, float] = {}
    for name in tree.names(_ZONES):
        if name.startswith("thermal_zone"):
            kind = tree.line(f"{_ZONES}/{name}/type").lower()
            degrees = _degrees(tree, f"{_ZONES}/{name}/temp")
            if degrees is not None:
                zones[kind] = max(degrees, zones.get(kind, degrees))
    of_cpu = [value for kind, value in zones.items() if kind.startswith(_CPU_ZONES)]
    of_cpu += _sensor_temperatures(tree)
    # A board with a single unnamed zone measures its processor.
    return max(of_cpu or list(zones.values()), default=None)


def _sensor_temperatures(tree: Tree) -> list[float]:
    found = []
    for name in tree.names(_HWMON):
        if tree.line(f"{_HWMON}/{name}/name") in _CPU_SENSORS:
            degrees = _degrees(tree, f"{_HWMON}/{name}/temp1_input")
            if degrees is not None:
                found.append(degrees)
    return found


def _degrees(tree: Tree, path: str) -> float | None:
    millidegrees = tree.number(path, _OFF_MC, 200_000)
    if millidegrees is None or millidegrees <= -100_000:
        return None
    return round(millidegrees / 1000, 1)


def _firmware_files(tree: Tree) -> list[str]:
    """Return such as ``…/soc/soc:firmware/get_throttled``; a Pi 5 names its soc with an address."""
    top = "/sys/devices/platform"
    socs = [name for name in tree.names(top) if name.startswith("soc")]
    return [f"{top}/{soc}/{soc}:firmware/get_throttled" for soc in socs]


def _firmware(tree: Tree) -> tuple[list[str], list[str]]:
    """Return what the Raspberry Pi's firmware says of now and of the time since boot."""
    for path in _firmware_files(tree):
        text = tree.text(path)
        if text is None:
            continue
        try:
            bits = int(text.removeprefix("throttled=")[:12], 16)
        except ValueError:
            bits = -1
        if not 0 <= bits < 2**32:
            tree.warn(f"{path}: must be hexadecimal bits, got {text[:40]!r}. Taken as unknown.")
            continue
        now = [reason for bit, reason in _FIRMWARE_BITS.items() if bits >> bit & 1]
        before = [reason for bit, reason in _FIRMWARE_BITS.items() if bits >> (bit + 16) & 1]
        return now, [reason for reason in before if reason not in now]
    return [], []


def _under_voltage_alarm(tree: Tree) -> bool:
    """Return the alarm of the mainline kernel's driver for the Pi, which has no firmware file."""
    return any(
        tree.line(f"{_HWMON}/{name}/in0_lcrit_alarm") == "1"
        for name in tree.names(_HWMON)
        if tree.line(f"{_HWMON}/{name}/name") == "rpi_volt"
    )


def _capped(tree: Tree) -> list[str]:
    """Return whether the kernel may not even use the base frequency (or, unknown, the highest)."""
    folder = "/sys/devices/system/cpu/cpufreq"
    for name in tree.names(folder):
        allowed, base, highest = (
            tree.number(f"{folder}/{name}/{file}", 1_000, 100_000_000)  # kHz
            for file in ("scaling_max_freq", "base_frequency", "cpuinfo_max_freq")
        )
        full = base or highest
        # Drivers round to their steps, by less than a hundredth.
        if allowed and full and allowed < 0.99 * full:
            return [f"frequency capped at {allowed / 1000:.0f} of {full / 1000:.0f} MHz"]
    return []


def _cooled(tree: Tree) -> list[str]:
    """Return whether the kernel cools the processor by slowing it."""
    for name in tree.names(_ZONES):
        if not name.startswith("cooling_device"):
            continue
        kind = tree.line(f"{_ZONES}/{name}/type").lower()
        if kind.startswith(("processor", "cpufreq", "thermal-cpufreq", "intel_powerclamp")):
            state = tree.number(f"{_ZONES}/{name}/cur_state", -1, 1_000_000)
            if state is not None and state > 0:
                return ["thermal cooling"]
    return []


def _x86_throttle_count(tree: Tree) -> bool:
    folder = "/sys/devices/system/cpu/cpu0/thermal_throttle"
    return any(
        (tree.number(f"{folder}/{name}_throttle_count", 0, 2**64) or 0) > 0
        for name in ("core", "package")
    )
