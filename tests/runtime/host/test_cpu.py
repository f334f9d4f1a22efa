from __future__ import annotations

from pathlib import Path

import pytest
from host_machines import CLOUD_SERVER, PI_4, V1_CONTAINER, Machine, arm, cpuinfo, x86

from scanflow_serve.runtime.host.cpu import ARM_FEATURES, X86_FEATURES
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.host.profile import profile_host


def cpu(machine: Machine, folder: Path) -> Cpu:
    return profile_host(machine.at(folder)).cpu


def test_features_are_those_that_all_cores_have(tmp_path: Path) -> None:
    little = f"processor\t: 0\n{arm('0xd05', 'fp asimd asimddp')}\n"
    big = f"processor\t: 1\n{arm('0xd0b', 'fp asimd asimddp i8mm bf16')}\n"
    found = cpu(Machine({"/proc/cpuinfo": little + big}), tmp_path)
    assert found.features == ("asimd", "asimddp", "dotprod", "neon")
    assert (found.model, found.logical) == ("Cortex-A55 + Cortex-A76", 2)


@pytest.mark.parametrize("name", sorted(X86_FEATURES))
def test_x86_feature_is_kept_under_the_kernel_s_name(name: str, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"/proc/cpuinfo": cpuinfo(1, x86("AuthenticAMD", "X", name))}
    assert cpu(Machine(files), tmp_path).features == (name,)


@pytest.mark.parametrize("name", sorted(ARM_FEATURES))
def test_arm_feature_is_kept_under_the_kernel_s_name(name: str, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"/proc/cpuinfo": cpuinfo(1, arm("0xd0b", name))}
    assert name in cpu(Machine(files), tmp_path).features


def test_arm_core_without_a_known_name_keeps_its_number(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"/proc/cpuinfo": cpuinfo(1, arm("0xd9f", "asimd"))}
    assert cpu(Machine(files), tmp_path).model == "Arm 0xd9f"


@pytest.mark.parametrize(
    ("status", "cores"), [("0-7", 8.0), ("0,2,4-5", 4.0), ("3", 1.0), ("0-900", 8.0)]
)
def test_affinity_limits_the_cores_of_a_tree(status: str, cores: float, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"/proc/self/status": f"Cpus_allowed_list:\t{status}\n"}
    assert cpu(CLOUD_SERVER.but(files), tmp_path).cores == cores


@pytest.mark.parametrize("online", ["0-99999999999999999999", "7-2", "a-b", "-", "0-9000"])
def test_absurd_list_of_cpus_falls_back_to_cpuinfo(online: str, tmp_path: Path) -> None:
    path = "/sys/devices/system/cpu/online"
    host: HostProfile = profile_host(PI_4.but({path: online}).at(tmp_path))
    assert host.cpu.logical == 4
    assert host.warnings == (f"{path}: must be a list of CPUs, got {online!r}. Taken as unknown.",)


def test_armv6_pi_zero_is_not_taken_for_armv7(tmp_path: Path) -> None:
    name = "ARMv6-compatible processor rev 7 (v6l)"
    text = cpuinfo(1, arm("0xb76", "half thumb fastmult vfp", name=name, architecture=7))
    host = profile_host(Machine({"/proc/cpuinfo": text}).at(tmp_path))
    assert (host.arch, host.cpu.model, host.cpu.features) == ("armv6l", "ARM1176", ())


def test_cpuset_of_the_control_group_limits_the_cores(tmp_path: Path) -> None:
    unquoted = V1_CONTAINER.but({"/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n"})
    assert cpu(unquoted, tmp_path).cores == 4.0
