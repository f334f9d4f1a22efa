"""Where the backends' wheels don't exist, and what to do about it.

Source: the files of onnxruntime 1.32.0 and openvino 2026.4.1 on PyPI (November 2026).
"""

from __future__ import annotations

import re

from scanflow_serve.runtime.host.system import Architecture

_OPENVINO_GLIBC = (2, 35)  # on aarch64
_ONNXRUNTIME_GLIBC = (2, 28)
_NARROW = ("armv7l", "armv6l", "i686")


def without_wheels(arch: str, libc: str) -> frozenset[str]:
    """Return the backends that can't be installed on a userland and C library.

    >>> sorted(without_wheels("aarch64", "glibc 2.31"))
    ['openvino']
    """
    if arch in _NARROW or libc.startswith("musl"):
        return frozenset({"onnxruntime", "openvino"})
    version = _glibc(libc)
    if version is None or arch != "aarch64":
        return frozenset()
    needs = {"onnxruntime": _ONNXRUNTIME_GLIBC, "openvino": _OPENVINO_GLIBC}
    return frozenset(name for name, least in needs.items() if version < least)


def wheel_warnings(arch: Architecture, libc: str) -> list[str]:
    """Return what can't be installed on this platform, each with the cure."""
    if arch.userland in _NARROW:
        wide = arch.kernel in ("aarch64", "x86_64")
        fault = f"a 32-bit system ({arch.userland}) has no onnxruntime or openvino wheels"
        cause = f", although the kernel is {arch.kernel}" if wide else ""
        cure = "Install a 64-bit system: Raspberry Pi OS (64-bit) runs on every Pi since the Pi 3."
        return [f"arch: {fault}{cause}. {cure}"]
    if libc.startswith("musl"):
        fault = f"{libc} has no onnxruntime or openvino wheels"
        return [f"libc: {fault}. Use a system with glibc, such as Debian or python:3.11-slim."]
    version = _glibc(libc)
    if version is None or arch.userland != "aarch64":
        return []
    cure = "Upgrade to Debian 12, Ubuntu 22.04 or later"
    warnings = []
    if version < _ONNXRUNTIME_GLIBC:
        warnings.append(f"libc: onnxruntime on aarch64 needs glibc >= 2.28, got {libc}. {cure}.")
    if version < _OPENVINO_GLIBC:
        rule = f"openvino on aarch64 needs glibc >= 2.35, got {libc}"
        warnings.append(
            f"libc: {rule}; pip would install a release of 2025 or older. "
            f"{cure}, or allow only the backend 'onnxruntime' in the policy."
        )
    return warnings


def _glibc(libc: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"glibc (\d+)\.(\d+)", libc)
    return (int(found[1]), int(found[2])) if found else None
