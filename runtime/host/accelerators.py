"""What besides the CPU can run a network.

Device files decide first. Only where they show hardware that a library could drive is that
library asked, in a child process: on a plain CPU nothing is imported to learn that.
"""

from __future__ import annotations

from collections.abc import Iterable

from scanflow_serve.runtime.host.hardware import Hardware
from scanflow_serve.runtime.host.probes import Probes
from scanflow_serve.runtime.host.tree import Tree, printable

_NVIDIA_NODES = ("/dev/nvidia0", "/dev/nvhost-gpu", "/dev/nvgpu", "/usr/lib/wsl/lib/libcuda.so.1")
_DRM = "/sys/class/drm"
_INTEL, _AMD = "0x8086", "0x1002"  # PCI vendors
# Providers that are built into a library whether or not their hardware is there.
_NVIDIA_PROVIDERS = frozenset({"CUDAExecutionProvider", "TensorrtExecutionProvider"})
_NO_ACCELERATORS = frozenset({"CPU", "CPUExecutionProvider", "AzureExecutionProvider"})


def read_accelerators(tree: Tree, hardware: Hardware, probes: Probes) -> tuple[str, ...]:
    """Return such as ``nvidia``, ``coral``, ``hailo``, ``openvino:GPU``, sorted."""
    found = _nodes(tree, hardware)
    vendors = _gpu_vendors(tree)
    libraries = []
    if _INTEL in vendors or _has(tree, "/dev/accel", "accel"):
        libraries.append("openvino")
    if "nvidia" in found or _INTEL in vendors or (_AMD in vendors and tree.exists("/dev/kfd")):
        libraries.append("onnxruntime")
    if libraries:
        found |= _reported(tree, probes, libraries, nvidia="nvidia" in found)
    return tuple(sorted(found))


def _nodes(tree: Tree, hardware: Hardware) -> set[str]:
    found = set()
    if (
        hardware.family == "jetson"  # its GPU is part of the SoC
        or tree.names("/proc/driver/nvidia/gpus")
        or any(tree.exists(path) for path in _NVIDIA_NODES)
    ):
        found.add("nvidia")
    if tree.exists("/dev/apex_0"):
        found.add("coral")
    if tree.exists("/dev/hailo0"):
        found.add("hailo")
    return found


def _has(tree: Tree, folder: str, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in tree.names(folder))


def _gpu_vendors(tree: Tree) -> set[str]:
    """Return the PCI vendors of the GPUs that can compute, which have a render node."""
    nodes = [name for name in tree.names("/dev/dri") if name.startswith("renderD")]
    return {tree.line(f"{_DRM}/{name}/device/vendor") for name in nodes}


def _reported(tree: Tree, probes: Probes, libraries: Iterable[str], *, nvidia: bool) -> set[str]:
    try:
        devices = probes.devices(tuple(libraries))
    except (OSError, ValueError) as error:
        tree.warn(f"accelerators: {', '.join(libraries)} can't be asked: {printable(str(error))}.")
        return set()
    return {
        f"{library}:{printable(name)}"
        for library, names in devices.items()
        for name in names
        if name not in _NO_ACCELERATORS and (nvidia or name not in _NVIDIA_PROVIDERS)
    }
