from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from scanflow_serve.converters import runner
from scanflow_serve.converters.conversion import Context, Options
from scanflow_serve.converters.routes import Form, Step
from scanflow_serve.converters.runner import Limits
from scanflow_serve.policies.errors import ArtifactError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_text("model")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "made"
    path.mkdir()
    (path / "kept").write_text("")
    return path


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def step(function: str, *, data: bool = False) -> Step:
    form = Form("onnx", "fp32")
    return Step(function, form, form, f"odd_steps:{function}", (), data=data)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_steps_run_one_after_another_and_only_the_last_file_is_left(
    source: Path, folder: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    path = runner.convert(
        [step("copy"), replace(step("copy"), name="again")],
        source,
        folder,
        Context(features=frozenset({"avx2"}), options=Options(samples=7, ignored=("n",))),
        progress=lambda *args: told.append(args),
    )
    assert path == folder / "model.bin"
    assert path.read_text().split("|")[0] == "model"
    assert path.read_text().count("['avx2'] Options(samples=7, ignored=('n',), batch=1)") == 2
    assert files(folder) == ["companion", "kept", "model.bin"]
    assert told == [(0, 2, "copy"), (1, 2, "again")]


@pytest.mark.parametrize("wanted", [True, False])
def test_rows_go_to_steps_that_need_them_only(source: Path, folder: Path, wanted: bool) -> None:
    rows = {"file": np.arange(3), "x/y": np.zeros((3, 1), np.float32)}
    path = runner.convert([step("copy", data=wanted)], source, folder, Context(rows=rows))
    assert ("'file': array([0, 1, 2])" in path.read_text()) is wanted


def test_crash_of_a_converter_is_an_error_and_leaves_nothing(source: Path, folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"net\.onnx: step 'crash' was ended by SIGSEGV"):
        runner.convert([step("copy"), step("crash")], source, folder, Context())
    assert files(folder) == ["kept"]


def test_hanging_converter_is_ended_with_all_that_it_started(source: Path, folder: Path) -> None:
    with pytest.raises(ArtifactError, match=r"step 'hang' did not finish in 5 s"):
        runner.convert([step("hang")], source, folder, Context(), limits=Limits(timeout_s=5))
    pids = [int(pid) for pid in source.with_name("pids").read_text().split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 60  # the kernel takes a moment to end what was killed
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [pid for pid in pids if alive(pid)]
    assert files(folder) == ["kept"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's own memory")
def test_converter_over_its_memory_is_refused_with_the_bound(source: Path, folder: Path) -> None:
    limits = Limits(memory_mb=512)
    with pytest.raises(ArtifactError, match="'grow' must stay within 512 MB of memory, but asked"):
        runner.convert([step("grow")], source, folder, Context(), limits=limits)
    assert files(folder) == ["kept"]


def test_error_names_the_file_that_was_given_not_an_intermediate_one(
    source: Path, folder: Path
) -> None:
    with pytest.raises(ArtifactError) as caught:
        runner.convert([step("copy"), step("refuse")], source, folder, Context())
    assert str(caught.value) == f"{source}: must be nice."


def test_unforeseen_exception_is_an_error_with_its_last_line(source: Path, folder: Path) -> None:
    with pytest.raises(ArtifactError, match="'fail' ended with exit status 1: KeyError: 'what no"):
        runner.convert([step("fail")], source, folder, Context())


def test_empty_route_is_a_mistake_of_the_caller(source: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="a route must have a step, got none"):
        runner.convert([], source, folder, Context())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_converter_ends_with_its_parent(source: Path, folder: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from scanflow_serve.converters import runner\n"
        "from scanflow_serve.converters.conversion import Context\n"
        "from scanflow_serve.converters.routes import Form, Step\n"
        "form = Form('onnx', 'fp32')\n"
        "step = Step('hang', form, form, 'odd_steps:hang', ())\n"
        f"runner.convert([step], Path({str(source)!r}), Path({str(folder)!r}), Context())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    pids = source.with_name("pids")
    while not (pids.exists() and pids.read_text().strip()):
        assert parent.poll() is None
        time.sleep(0.01)
    worker = psutil.Process(int(pids.read_text().split()[0]))
    sleeper = psutil.Process(int(pids.read_text().split()[1]))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    worker.wait(timeout=60)
    sleeper.kill()


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
