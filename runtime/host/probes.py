"""What no file tells: facts of the running process, as an argument, so that tests bring theirs."""

from __future__ import annotations

import json
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_TIMEOUT_S = 20.0  # of the child that asks the libraries; a cold import on an SD card takes 5 s

# Run in a child: importing both costs 0.5 s and 100 MB, which the server must not keep.
_ASK = """
import importlib.util, json, sys
found = {}
if "openvino" in sys.argv and importlib.util.find_spec("openvino"):
    import openvino
    found["openvino"] = list(openvino.Core().available_devices)
if "onnxruntime" in sys.argv and importlib.util.find_spec("onnxruntime"):
    import onnxruntime
    found["onnxruntime"] = list(onnxruntime.get_available_providers())
print(json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked of the process and not of files; each answers "", 0 or None if unknown.

    Attributes:
        machine: The kernel's name of the architecture, such as ``x86_64``.
        bits: Width of a pointer in this process: 32 or 64.
        system: Operating system, such as ``Linux`` or ``Darwin 24.1``.
        affinity: Number of CPUs that this process may run on.
        memory_mb: Memory of the machine in MiB, asked only where /proc/meminfo is missing.
        libc: Such as ``glibc 2.36``.
        python: Such as ``3.11.9``.
        devices: For libraries among ``openvino`` and ``onnxruntime``, what each can run on.
            Raises OSError or ValueError where they can't be asked.
    """

    machine: Callable[[], str] = lambda: ""
    bits: Callable[[], int] = lambda: 0
    system: Callable[[], str] = lambda: ""
    affinity: Callable[[], int | None] = lambda: None
    memory_mb: Callable[[], float | None] = lambda: None
    libc: Callable[[], str] = lambda: ""
    python: Callable[[], str] = lambda: ""
    devices: Callable[[Sequence[str]], Mapping[str, Sequence[str]]] = lambda _libraries: {}


def _affinity() -> int | None:
    # Not on macOS or Windows.
    ask = getattr(os, "sched_getaffinity", None)
    return len(ask(0)) if ask is not None else os.cpu_count()


def _libc() -> str:
    # platform.libc_ver() would read the whole interpreter.
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""


def _memory_mb() -> float | None:
    if platform.system() == "Linux":
        return None  # psutil would read the very /proc/meminfo that is missing
    import psutil

    return float(psutil.virtual_memory().total) / 2**20


def _devices(libraries: Sequence[str]) -> Mapping[str, Sequence[str]]:
    try:
        child = subprocess.run(
            [sys.executable, "-c", _ASK, *libraries],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"{type(error).__name__} in the child process") from None
    found = json.loads(child.stdout)  # a ValueError if the libraries printed to stdout
    return {str(library): tuple(map(str, names)) for library, names in found.items()}


def _system() -> str:
    name = platform.system()
    return name if name == "Linux" else f"{name} {platform.release()}".strip()


# A tree that is not this machine: nothing but its files is known.
NOTHING = Probes()

THIS_PROCESS = Probes(
    machine=platform.machine,
    bits=lambda: struct.calcsize("P") * 8,
    system=_system,
    affinity=_affinity,
    memory_mb=_memory_mb,
    libc=_libc,
    python=platform.python_version,
    devices=_devices,
)
