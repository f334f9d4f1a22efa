from __future__ import annotations

from pathlib import Path

from host_machines import LAPTOP_ON_BATTERY, PI_3_32_BIT, PI_4, PI_5_THROTTLED, POD

from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.host.summary import summary


def test_pod_tells_what_it_has_of_what_there_is(tmp_path: Path) -> None:
    host = profile_host(POD.at(tmp_path), POD.environ)
    rows = dict(summary(host))
    assert rows["kind"] == "cluster, kubernetes"
    assert rows["cpu"] == (
        "Intel(R) Xeon(R) Platinum 8488C, 0.5 of 8 cores, AMX INT8, AMX BF16, AVX-512 FP16, "
        "AVX-512 BF16, AVX-512 VNNI, AVX-512, AVX-VNNI, AVX2"
    )
    assert rows["memory"] == "512 of 3,906 MiB (cgroup)"
    assert rows["accelerators"] == "none"
    assert rows["fingerprint"] == host.fingerprint


def test_pi_tells_its_throttling(tmp_path: Path) -> None:
    hot = dict(summary(profile_host(PI_5_THROTTLED.at(tmp_path / "5"))))
    assert hot["throttling"].startswith("yes: soft temperature limit, ")
    assert hot["temperature"] == "85.1 °C"
    cool = dict(summary(profile_host(PI_4.at(tmp_path / "4"))))
    assert cool["throttling"] == "not now; under-voltage (since boot), throttled (since boot)"
    assert cool["cpu"] == "Cortex-A72, 4 cores, up to 1,800 MHz, NEON"


def test_laptop_tells_its_battery_and_caches(tmp_path: Path) -> None:
    rows = dict(summary(profile_host(LAPTOP_ON_BATTERY.at(tmp_path))))
    assert rows["power"] == "on battery"
    assert rows["caches"] == "L1d 48 KiB, L2 1,280 KiB, L3 12,288 KiB"
    assert rows["throttling"] == "no"


def test_warnings_stand_last(tmp_path: Path) -> None:
    rows = summary(profile_host(PI_3_32_BIT.at(tmp_path)))
    assert rows[-1][0] == "warning"
    assert "no onnxruntime or openvino wheels" in rows[-1][1]


def test_unknown_is_said(tmp_path: Path) -> None:
    rows = dict(summary(profile_host(tmp_path)))
    assert (rows["model"], rows["memory"]) == ("unknown", "unknown")
