"""The machine that the tests run on, with its real kernel."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from scanflow_serve.runtime.host.profile import profile_host

LINUX = pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
PRINT_PROFILE = (
    "import json; from scanflow_serve.runtime.host.profile import profile_host; "
    "print(json.dumps(profile_host().to_json()))"
)


def child_profile(*prefix: str, **environ: str) -> dict[str, object]:
    command = [*prefix, sys.executable, "-c", PRINT_PROFILE]
    environment = {**os.environ, **environ}
    child = subprocess.run(command, capture_output=True, check=True, env=environment)
    return dict(json.loads(child.stdout))


def test_profile_agrees_with_the_standard_library() -> None:
    host = profile_host()
    assert host.arch == platform.machine()
    assert host.python == platform.python_version()
    assert 0 < host.cpu.cores <= (os.cpu_count() or 1)
    assert 0 < host.memory_mb <= psutil.virtual_memory().total / 2**20 + 1


def test_fingerprint_is_the_same_on_the_next_run() -> None:
    assert profile_host().fingerprint == child_profile()["fingerprint"]


@LINUX
def test_affinity_limits_the_cores() -> None:
    cpu = min(os.sched_getaffinity(0))
    profile = child_profile("taskset", "-c", str(cpu))
    assert isinstance(profile["cpu"], dict)
    assert profile["cpu"]["cores"] <= 1.0
    assert profile["cpu"]["logical"] == profile_host().cpu.logical


def test_declared_kind_prevails() -> None:
    assert child_profile(SCANFLOW_DEVICE_KIND="car")["kind"] == "car"


@LINUX
def test_features_are_those_that_the_kernel_lists() -> None:
    with open("/proc/cpuinfo") as file:
        words = set(file.read().split())
    aliases = {"neon", "dotprod"}
    assert set(profile_host().cpu.features) - aliases <= words


def test_profile_imports_no_inference_library() -> None:
    probe = (
        "import sys; from scanflow_serve.runtime.host.profile import profile_host; profile_host(); "
        "print([name for name in ('onnxruntime', 'openvino', 'numpy') if name in sys.modules])"
    )
    child = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True)
    assert child.stdout.strip() == b"[]"


@pytest.fixture
def limited_groups() -> Iterator[list[Path]]:
    """Return control groups of version 1 that grant a quarter of a core and 256 MiB."""
    limits = {
        "cpu": {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "25000"},
        "memory": {"memory.limit_in_bytes": str(256 << 20)},
    }
    groups = [
        Path("/sys/fs/cgroup", controller, f"scanflow-{os.getpid()}") for controller in limits
    ]
    try:
        for group, files in zip(groups, limits.values(), strict=True):
            group.mkdir()
            for file, value in files.items():
                (group / file).write_text(value)
    except OSError as error:
        for group in groups:
            if group.is_dir():
                group.rmdir()
        pytest.skip(f"may not make control groups of version 1: {error}")
    yield groups
    for group in groups:
        group.rmdir()


@LINUX
def test_kernel_s_own_control_group_limits_cores_and_memory(limited_groups: list[Path]) -> None:
    enter = "".join(f"echo $$ > {group}/cgroup.procs; " for group in limited_groups)
    profile = child_profile("sh", "-c", f'{enter} exec "$@"', "sh")
    assert isinstance(profile["cpu"], dict)
    assert (profile["cpu"]["cores"], profile["memory_mb"]) == (0.25, 256.0)
