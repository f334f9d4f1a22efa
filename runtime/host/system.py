"""The software below us: architecture of kernel and userland, operating system, C library."""

from __future__ import annotations

import re
from dataclasses import dataclass

from scanflow_serve.runtime.host.cpu import CpuInfo
from scanflow_serve.runtime.host.probes import Probes
from scanflow_serve.runtime.host.tree import Tree, printable

_SAME = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l", "i386": "i686"}
_NARROW = {"x86_64": "i686", "aarch64": "armv7l"}  # the 32-bit userland of a 64-bit kernel
# e_machine of an ELF header -> architecture. Source: elf(5), <elf.h>.
_ELF_MACHINES = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
_PROGRAMS = ("/bin/sh", "/usr/bin/env", "/bin/busybox", "/usr/bin/python3")
_LIBC_FOLDERS = {
    "x86_64": ("/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64"),
    "aarch64": ("/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64"),
    "armv7l": ("/lib/arm-linux-gnueabihf", "/usr/lib/arm-linux-gnueabihf", "/lib", "/usr/lib"),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """What programs are built for, and what the kernel is; "" if unknown."""

    userland: str
    kernel: str


def read_architecture(tree: Tree, cpuinfo: CpuInfo, probes: Probes) -> Architecture:
    """Return the architectures; they differ for a 32-bit system on a 64-bit kernel."""
    name = probes.machine() or tree.line("/proc/sys/kernel/arch")
    kernel = _SAME.get(name.lower(), name) or _kernel_arch(cpuinfo)
    bits = probes.bits()
    if bits:
        userland = _NARROW.get(kernel, kernel) if bits == 32 else kernel
    else:
        userland = _elf_arch(tree) or kernel
    if userland == "armv7l" and "(v6l)" in " ".join(cpuinfo.get("model name", ())):
        userland = "armv6l"
    if not userland:
        tree.warn("arch: neither /proc/cpuinfo nor a program tells it. host.arch is 'unknown'.")
    return Architecture(userland or "unknown", kernel or userland)


def _kernel_arch(cpuinfo: CpuInfo) -> str:
    if "flags" in cpuinfo:
        return "x86_64" if "lm" in cpuinfo["flags"][0].split() else "i686"
    if "CPU architecture" in cpuinfo:
        # A 64-bit Arm core under a 32-bit kernel reports architecture 7.
        return "aarch64" if cpuinfo["CPU architecture"][0] == "8" else "armv7l"
    return ""


def _elf_arch(tree: Tree) -> str:
    for path in _PROGRAMS:
        header = tree.read(path, 20) or b""
        if len(header) == 20 and header.startswith(b"\x7fELF"):
            order = "big" if header[5] == 2 else "little"
            machine = int.from_bytes(header[18:20], order)  # type: ignore[arg-type]
            if machine in _ELF_MACHINES:
                return _ELF_MACHINES[machine]
    return ""


def read_os(tree: Tree, probes: Probes) -> str:
    """Return such as ``Debian GNU/Linux 12 (bookworm)``."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        for line in (tree.text(path) or "").splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return printable(value.strip("\"' "))
    return printable(probes.system())


def read_kernel(tree: Tree) -> str:
    """Return such as ``6.6.51+rpt-rpi-v8``."""
    return tree.line("/proc/sys/kernel/osrelease")


def read_libc(tree: Tree, arch: str, probes: Probes) -> str:
    """Return such as ``glibc 2.36`` or ``musl 1.2.5``; "" if unknown."""
    known = probes.libc()
    if known:
        return known
    for folder in _LIBC_FOLDERS.get(arch, ()):
        data = tree.read(f"{folder}/libc.so.6") or b""
        found = re.search(rb"GNU C Library [^\n]{0,200}version (\d{1,2}\.\d{1,2})", data)
        if found:
            return f"glibc {found[1].decode()}"
    if any(name.startswith("ld-musl-") for name in tree.names("/lib")):
        return f"musl {_apk_version(tree, 'musl')}".strip()
    return ""


def _apk_version(tree: Tree, package: str) -> str:
    database = tree.text("/lib/apk/db/installed") or ""
    found = re.search(rf"^P:{package}\nV:([\w.-]{{1,40}})$", database, re.MULTILINE)
    return found[1].partition("-")[0] if found else ""
