"""Each machine, read from its files, is what it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from host_machines import (
    DESKTOP,
    JETSON_ORIN,
    LAPTOP_ON_BATTERY,
    MACHINES,
    PI_3_32_BIT,
    PI_4,
    PI_5_THROTTLED,
    POD,
    SLURM_JOB,
    SWARM_TASK,
    V1_CONTAINER,
    elf,
    meminfo,
    zone,
)

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.probes import NOTHING
from scanflow_serve.runtime.host.profile import profile_host


def test_pi_3_with_a_32_bit_system_is_told_that_it_has_no_wheels(tmp_path: Path) -> None:
    host = profile_host(PI_3_32_BIT.at(tmp_path))
    assert (host.kind, host.arch, host.libc) == ("raspberry-pi", "armv7l", "glibc 2.31")
    assert host.model == "Raspberry Pi 3 Model B Rev 1.2"
    assert (host.cpu.model, host.cpu.features, host.cpu.cores) == ("Cortex-A53", ("neon",), 4.0)
    assert host.memory_mb == pytest.approx(922.1)
    assert host.warnings == (
        "arch: a 32-bit system (armv7l) has no onnxruntime or openvino wheels. "
        "Install a 64-bit system: Raspberry Pi OS (64-bit) runs on every Pi since the Pi 3.",
    )


def test_32_bit_userland_on_a_64_bit_kernel_is_armv7l(tmp_path: Path) -> None:
    host = profile_host(PI_4.but({"/bin/sh": elf(40, 32)}).at(tmp_path))
    assert host.arch == "armv7l"
    assert any("although the kernel is aarch64" in text for text in host.warnings)


def test_32_bit_python_on_a_64_bit_kernel_is_armv7l(tmp_path: Path) -> None:
    probes = dataclasses.replace(NOTHING, machine=lambda: "aarch64", bits=lambda: 32)
    assert profile_host(PI_4.at(tmp_path), probes=probes).arch == "armv7l"


def test_pi_4_remembers_that_it_was_throttled_but_is_not_now(tmp_path: Path) -> None:
    host = profile_host(PI_4.at(tmp_path))
    assert (host.kind, host.arch, host.cpu.model) == ("raspberry-pi", "aarch64", "Cortex-A72")
    assert host.cpu.features == ("asimd", "neon")
    assert not host.throttled
    assert host.throttle_reasons == ("under-voltage (since boot)", "throttled (since boot)")
    assert (host.temperature_c, host.cpu.max_mhz) == (52.6, 1800.0)
    assert host.accelerators == ()
    assert host.warnings == ()


def test_hot_pi_5_is_throttled_now(tmp_path: Path) -> None:
    host = profile_host(PI_5_THROTTLED.at(tmp_path))
    assert (host.kind, host.cpu.model) == ("raspberry-pi", "Cortex-A76")
    assert {"neon", "dotprod", "asimddp", "fphp"} <= set(host.cpu.features)
    assert host.throttled
    assert host.throttle_reasons == (
        "soft temperature limit",
        "frequency capped (since boot)",
        "throttled (since boot)",
    )
    assert (host.cpu.l1d_kb, host.cpu.l2_kb, host.cpu.l3_kb) == (64, 512, 2048)


def test_jetson_has_its_gpu_and_the_temperature_of_its_cpu(tmp_path: Path) -> None:
    host = profile_host(JETSON_ORIN.at(tmp_path))
    assert (host.kind, host.cpu.model, host.cpu.cores) == ("jetson", "Cortex-A78AE", 12.0)
    assert host.accelerators == ("nvidia",)
    assert host.temperature_c == 49.0
    assert host.warnings == ()


def test_laptop_on_battery_may_boost_but_is_not_throttled(tmp_path: Path) -> None:
    host = profile_host(LAPTOP_ON_BATTERY.at(tmp_path))
    assert (host.kind, host.model, host.arch) == ("laptop", "LENOVO 20XW0055GE", "x86_64")
    assert host.on_battery
    assert not host.throttled
    assert "avx512_vnni" in host.cpu.features
    assert host.temperature_c == 63.0
    assert host.cpu.l1d_kb == 48


def test_desktop_does_not_live_on_its_mouse_s_battery(tmp_path: Path) -> None:
    host = profile_host(DESKTOP.at(tmp_path))
    assert (host.kind, host.cpu.cores, host.temperature_c) == ("desktop", 16.0, 55.2)
    assert host.accelerators == ("nvidia",)
    assert not host.on_battery


def test_pod_has_what_its_limits_grant(tmp_path: Path) -> None:
    host = profile_host(POD.at(tmp_path), POD.environ)
    assert (host.kind, host.orchestrator, host.container) == ("cluster", "kubernetes", "kubernetes")
    assert (host.cpu.cores, host.cpu.logical) == (0.5, 8)
    assert (host.memory_mb, host.memory_total_mb) == (512.0, 3906.2)
    assert {"amx_int8", "avx512_fp16", "avx_vnni"} <= set(host.cpu.features)


def test_cgroup_v1_container_has_what_its_limits_grant(tmp_path: Path) -> None:
    host = profile_host(V1_CONTAINER.at(tmp_path))
    assert (host.kind, host.orchestrator, host.container) == ("container", "", "docker")
    assert (host.cpu.cores, host.memory_mb) == (1.5, 1024.0)


def test_swarm_task_is_part_of_a_cluster(tmp_path: Path) -> None:
    host = profile_host(SWARM_TASK.at(tmp_path), SWARM_TASK.environ)
    assert (host.kind, host.orchestrator, host.container) == ("cluster", "swarm", "docker")


def test_slurm_job_has_the_tightest_limit_of_its_ancestors(tmp_path: Path) -> None:
    host = profile_host(SLURM_JOB.at(tmp_path), SLURM_JOB.environ)
    assert (host.kind, host.orchestrator, host.container) == ("cluster", "slurm", "")
    assert (host.cpu.cores, host.memory_mb, host.cpu.numa_nodes) == (3.0, 2048.0, 2)


@pytest.mark.parametrize("name", MACHINES)
def test_json_form_gives_the_same_profile_back(name: str, tmp_path: Path) -> None:
    machine = MACHINES[name]
    host = profile_host(machine.at(tmp_path), machine.environ)
    assert HostProfile.from_json(json.loads(json.dumps(host.to_json()))) == host


@pytest.mark.parametrize("name", MACHINES)
def test_fingerprint_ignores_what_changes_between_runs(name: str, tmp_path: Path) -> None:
    machine = MACHINES[name]
    cool = profile_host(machine.at(tmp_path), machine.environ)
    memory = str(machine.files["/proc/meminfo"])
    total_kb = int(memory.split()[1])
    later = machine.but({"/proc/meminfo": meminfo(total_kb - 8_192), **zone(0, "cpu", 99_000)})
    hot = profile_host(later.at(tmp_path), machine.environ)
    assert hot.temperature_c == 99.0
    assert hot.fingerprint == cool.fingerprint


def test_fingerprints_tell_machines_and_grants_apart(tmp_path: Path) -> None:
    profiles = [
        profile_host(machine.at(tmp_path / name), machine.environ)
        for name, machine in MACHINES.items()
    ]
    # A Swarm task of the same limits is the same host to a measurement.
    assert len({host.fingerprint for host in profiles}) == len(MACHINES) - 1


def test_foreign_root_takes_nothing_of_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANFLOW_DEVICE_KIND", "car")
    host = profile_host(PI_4.at(tmp_path))
    assert (host.kind, host.python) == ("raspberry-pi", "")


def test_empty_tree_is_unknown_with_warnings(tmp_path: Path) -> None:
    host = profile_host(tmp_path)
    assert (host.kind, host.arch, host.cpu.cores, host.memory_mb) == ("unknown", "unknown", 1.0, 0)
    subjects = {text.partition(":")[0] for text in host.warnings}
    assert subjects == {"arch", "cpu", "kind", "memory"}


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere: root must be a folder, got 'not a folder'"):
        profile_host(tmp_path / "nowhere")
