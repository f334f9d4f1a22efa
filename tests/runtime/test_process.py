from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scanflow_serve.runtime.process import Ending, run_module

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="a rule of Linux")


@pytest.fixture(autouse=True)
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def write(folder: Path, code: str) -> str:
    (folder / "odd_child.py").write_text(f"import json, os, signal, sys, time\n{code}\n")
    return "odd_child"


def test_job_arrives_on_stdin(tmp_path: Path) -> None:
    module = write(tmp_path, "print(json.load(sys.stdin)['a']['b'])")
    ending = run_module(module, {"a": {"b": "told"}}, timeout_s=60)
    assert ending == Ending(0, "ended with exit status 0", "told")


def test_last_line_of_what_a_child_says_is_kept_without_its_stop(tmp_path: Path) -> None:
    module = write(tmp_path, "print('x' * 10_000); print('why.\\n', file=sys.stderr); sys.exit(3)")
    ending = run_module(module, {}, timeout_s=60)
    assert ending == Ending(3, "ended with exit status 3", "why")
    assert str(ending) == "ended with exit status 3: why"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SIGSEGV", "was ended by SIGSEGV"),
        ("SIGKILL", "was ended by SIGKILL (often: out of memory)"),
    ],
)
def test_signal_that_ended_a_child_is_named(tmp_path: Path, name: str, text: str) -> None:
    module = write(tmp_path, f"os.kill(os.getpid(), signal.{name})")
    ending = run_module(module, {}, timeout_s=60)
    assert str(ending) == text
    assert ending.status is not None
    assert ending.status < 0


def test_child_that_outlives_its_time_is_ended(tmp_path: Path) -> None:
    module = write(tmp_path, "time.sleep(600)")
    ending = run_module(module, {}, timeout_s=0.5)
    assert ending == Ending(None, "did not finish in 0.5 s")


def test_child_that_never_reads_its_job_is_no_error(tmp_path: Path) -> None:
    module = write(tmp_path, "os.close(0)")
    assert run_module(module, {"much": "x" * 10**6}, timeout_s=60).status == 0


def test_file_in_the_working_directory_does_not_shadow_an_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(other)
    assert run_module(write(tmp_path, "print('fine')"), {}, timeout_s=60).last_line == "fine"


@LINUX
def test_bound_on_memory_holds_for_what_is_written_not_for_what_is_mapped(tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(2**32)
    code = (
        "import mmap\n"
        "from scanflow_serve.runtime.process import bound_memory\n"
        "bound_memory(256)\n"
        f"file = open({str(big)!r}, 'rb')\n"
        "mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "print(len(mapped))\n"
        "bytearray(2**30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(2**32)
    assert done.stderr.strip().endswith("MemoryError")


@LINUX
def test_bound_is_never_above_the_one_that_stands() -> None:
    code = (
        "import resource\n"
        "from scanflow_serve.runtime.process import bound_memory\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))\n"
        "bound_memory(4096)\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA)[0] == 2**30)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
