from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from host_machines import CLOUD_SERVER, DESKTOP, LAPTOP_ON_BATTERY, PI_4, Machine

from scanflow_serve.runtime.host.probes import NOTHING, THIS_PROCESS
from scanflow_serve.runtime.host.profile import profile_host

DEVICES = {
    "openvino": ("CPU", "GPU", "NPU"),
    "onnxruntime": ("CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"),
}


def accelerators(machine: Machine, folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return what is found, and which libraries were asked for it."""
    asked: list[str] = []

    def devices(libraries: Sequence[str]) -> Mapping[str, Sequence[str]]:
        asked.extend(libraries)
        return {library: DEVICES[library] for library in libraries}

    host = profile_host(machine.at(folder), probes=dataclasses.replace(NOTHING, devices=devices))
    return host.accelerators, asked


@pytest.mark.parametrize("machine", [CLOUD_SERVER, PI_4], ids=["cloud-server", "pi-4"])
def test_no_library_is_asked_without_hardware_for_it(machine: Machine, tmp_path: Path) -> None:
    assert accelerators(machine, tmp_path) == ((), [])


def test_intel_gpu_is_what_openvino_reports(tmp_path: Path) -> None:
    found, asked = accelerators(LAPTOP_ON_BATTERY, tmp_path)
    assert asked == ["openvino", "onnxruntime"]
    # CUDA is built into the library, but there is no such hardware.
    assert found == ("openvino:GPU", "openvino:NPU")


def test_nvidia_gpu_is_what_onnx_runtime_reports(tmp_path: Path) -> None:
    found, asked = accelerators(DESKTOP, tmp_path)
    assert asked == ["onnxruntime"]
    assert found == ("nvidia", "onnxruntime:CUDAExecutionProvider")


@pytest.mark.parametrize(
    ("node", "name"), [("nvidia0", "nvidia"), ("apex_0", "coral"), ("hailo0", "hailo")]
)
def test_device_nodes_are_recognised(node: str, name: str, tmp_path: Path) -> None:
    assert name in accelerators(PI_4.but({f"/dev/{node}": ""}), tmp_path)[0]


@pytest.mark.parametrize("error", [OSError("crashed"), json.JSONDecodeError("x", "y", 0)])
def test_library_that_fails_is_a_warning(error: Exception, tmp_path: Path) -> None:
    def devices(libraries: Sequence[str]) -> Mapping[str, Sequence[str]]:
        raise error

    probes = dataclasses.replace(NOTHING, devices=devices)
    host = profile_host(DESKTOP.at(tmp_path), probes=probes)
    assert host.accelerators == ("nvidia",)
    assert any(w.startswith("accelerators: onnxruntime can't be asked") for w in host.warnings)


@pytest.mark.parametrize(
    ("library", "name"), [("onnxruntime", "CPUExecutionProvider"), ("openvino", "CPU")]
)
def test_real_library_answers_from_a_child_process(library: str, name: str) -> None:
    pytest.importorskip(library)
    found = THIS_PROCESS.devices((library,))
    assert list(found) == [library]
    assert name in found[library]


def test_child_process_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(OSError, match="CalledProcessError in the child process"):
        THIS_PROCESS.devices(("onnxruntime",))
