"""The machine that the tests run on, with its real kernel."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

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
