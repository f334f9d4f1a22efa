from __future__ import annotations

from pathlib import Path

import pytest
from host_machines import CLOUD_SERVER, PI_4, glibc

from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.host.system import Architecture
from scanflow_serve.runtime.host.wheels import wheel_warnings, without_wheels

ARM = Architecture("aarch64", "aarch64")
LIBC = "/lib/aarch64-linux-gnu/libc.so.6"


@pytest.mark.parametrize("libc", ["glibc 2.35", "glibc 2.41"])
def test_new_glibc_on_arm_has_all_wheels(libc: str) -> None:
    assert wheel_warnings(ARM, libc) == []


def test_old_glibc_on_arm_lacks_openvino(tmp_path: Path) -> None:
    host = profile_host(PI_4.but({LIBC: glibc("2.31")}).at(tmp_path))
    assert host.warnings == (
        "libc: openvino on aarch64 needs glibc >= 2.35, got glibc 2.31; pip would install a "
        "release of 2025 or older. Upgrade to Debian 12, Ubuntu 22.04 or later, or allow only "
        "the backend 'onnxruntime' in the policy.",
    )


def test_very_old_glibc_on_arm_lacks_both() -> None:
    texts = wheel_warnings(ARM, "glibc 2.27")
    assert [text.split()[1] for text in texts] == ["onnxruntime", "openvino"]


def test_old_glibc_on_x86_is_not_warned_of() -> None:
    assert wheel_warnings(Architecture("x86_64", "x86_64"), "glibc 2.31") == []


def test_musl_is_found_and_lacks_both(tmp_path: Path) -> None:
    alpine = CLOUD_SERVER.but(
        {
            "/lib/ld-musl-x86_64.so.1": "",
            "/lib/apk/db/installed": "P:alpine-keys\nV:2.4-r1\n\nP:musl\nV:1.2.5-r0\n",
        }
    )
    host = profile_host(alpine.at(tmp_path))
    assert host.libc == "musl 1.2.5"
    assert any("musl 1.2.5 has no onnxruntime or openvino wheels" in w for w in host.warnings)


@pytest.mark.parametrize(
    ("arch", "libc", "lacking"),
    [
        ("x86_64", "glibc 2.17", set()),
        ("x86_64", "musl 1.2", {"onnxruntime", "openvino"}),
        ("armv7l", "glibc 2.36", {"onnxruntime", "openvino"}),
        ("aarch64", "glibc 2.36", set()),
        ("aarch64", "glibc 2.34", {"openvino"}),
        ("aarch64", "glibc 2.27", {"onnxruntime", "openvino"}),
        ("aarch64", "", set()),
    ],
)
def test_backends_without_wheels_are_known(arch: str, libc: str, lacking: set[str]) -> None:
    assert without_wheels(arch, libc) == lacking
