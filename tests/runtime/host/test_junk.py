"""Whatever the files hold, a profile comes back, and it is a sane one."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from host_machines import MACHINES, PI_4, POD, cpuinfo
from hypothesis import given, settings
from hypothesis import strategies as st

from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.profile import profile_host

JUNK = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=80).map(lambda text: text.encode(errors="replace")),
    st.sampled_from(
        [
            b"",
            b"\n",
            b"-1\n",
            b"0\n",
            b"nan",
            b"inf",
            b"1e999",
            b"9" * 5000,
            b"0-99999999999999999999",
            b"5-1",
            b"max max",
            b"\0" * 64,
            b"0::/../../../..\n",
            b"0::/" + b"a/" * 3000,
            b"0::/\0etc\n",
            b"1 2 3 / /sys/fs/cgroup - cgroup2",
            b"1 2 3 .. /\\777 rw - cgroup x rw,memory,cpu",
            b"processor : \xff\nflags : \nCPU part : 0xzzz\nCPU implementer : 0x41\n",
            b"MemTotal: -5 kB\n",
        ]
    ),
    st.none(),  # a folder where a file should be
)


def spoil(root: Path, path: str, junk: bytes | None) -> None:
    place = root / path.lstrip("/")
    place.unlink()
    if junk is None:
        place.mkdir()
    else:
        place.write_bytes(junk)


def assert_sane(host: HostProfile) -> None:
    assert 0 < host.cpu.cores <= 8192
    assert 1 <= host.cpu.logical <= 8192
    assert host.memory_mb >= 0
    assert math.isfinite(host.memory_mb)
    assert HostProfile.from_json(json.loads(json.dumps(host.to_json()))) == host


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_profile_survives_junk_in_any_file(data: st.DataObject) -> None:
    machine = MACHINES[data.draw(st.sampled_from(sorted(MACHINES)))]
    paths = data.draw(st.sets(st.sampled_from(sorted(machine.files)), min_size=1))
    with tempfile.TemporaryDirectory() as folder:
        root = machine.at(Path(folder))
        for path in sorted(paths):
            spoil(root, path, data.draw(JUNK))
        assert_sane(profile_host(root, machine.environ))


def test_absurd_memory_falls_back_to_the_control_group(tmp_path: Path) -> None:
    host = profile_host(POD.but({"/proc/meminfo": "MemTotal: -5 kB\n"}).at(tmp_path))
    assert (host.memory_mb, host.memory_total_mb) == (512.0, None)
    assert host.warnings == (
        "/proc/meminfo: MemTotal: must be a number from 1 to 140737488355328, got '-5'. "
        "Taken as unknown.",
    )


def test_folder_in_place_of_a_file_is_a_warning(tmp_path: Path) -> None:
    root = PI_4.at(tmp_path)
    spoil(root, "/proc/meminfo", None)
    host = profile_host(root)
    assert host.memory_mb == 0
    assert "/proc/meminfo: must be a readable file, got 'Is a directory'. Ignored." in host.warnings


def test_file_in_place_of_a_folder_is_a_warning(tmp_path: Path) -> None:
    root = PI_4.at(tmp_path)
    shutil.rmtree(root / "sys/class/thermal")
    (root / "sys/class/thermal").touch()
    expected = "/sys/class/thermal: must be a readable folder, got 'Not a directory'. Ignored."
    assert expected in profile_host(root).warnings


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_forbidden_file_is_a_warning(tmp_path: Path) -> None:
    root = PI_4.at(tmp_path)
    (root / "proc/cpuinfo").chmod(0)
    host = profile_host(root)
    assert any("/proc/cpuinfo: must be a readable file" in text for text in host.warnings)


def test_link_that_loops_is_a_warning(tmp_path: Path) -> None:
    root = PI_4.at(tmp_path)
    (root / "proc/meminfo").unlink()
    (root / "proc/meminfo").symlink_to("meminfo")
    assert any("Too many levels of symbolic links" in text for text in profile_host(root).warnings)


def test_named_pipe_does_not_hang_the_start(tmp_path: Path) -> None:
    root = PI_4.at(tmp_path)
    (root / "proc/meminfo").unlink()
    os.mkfifo(root / "proc/meminfo")
    assert profile_host(root).kind == "raspberry-pi"


def test_links_are_followed_below_the_root(tmp_path: Path) -> None:
    root = PI_4.at(tmp_path)
    (root / "sys/firmware/devicetree").mkdir(parents=True)
    shutil.move(root / "proc/device-tree", root / "sys/firmware/devicetree/base")
    (root / "proc/device-tree").symlink_to("/sys/firmware/devicetree/base")
    assert profile_host(root).model == "Raspberry Pi 4 Model B Rev 1.2"


def test_links_do_not_lead_out_of_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("Raspberry Pi 9\n")
    root = PI_4.at(tmp_path / "root")
    (root / "proc/device-tree/model").unlink()
    (root / "proc/device-tree/model").symlink_to("../../../outside")
    (root / "proc/cpuinfo").write_text(cpuinfo(1, ""))
    assert profile_host(root).model == ""


def test_control_characters_stay_out_of_texts(tmp_path: Path) -> None:
    path = "/proc/device-tree/model"
    host = profile_host(PI_4.but({path: b"Pi\x1b[2J\x07 4\0"}).at(tmp_path))
    assert host.model == "Pi [2J 4"
