from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.calibration.benchmark import Effort
from scanflow_serve.runtime.calibration.child import WORKER
from scanflow_serve.runtime.calibration.job import Job
from scanflow_serve.runtime.variants import Candidate, Variant

LAUNCHER = (
    "import subprocess, sys;"
    f"subprocess.run([sys.executable, '-P', '-m', {WORKER!r}], stdin=open(sys.argv[1]))"
)
PATIENCE_S = 30.0


@pytest.fixture
def hanging_job(
    policy_of: Callable[..., PolicyFile],
    artifacts: Mapping[str, tuple[Artifact, ...]],
    tmp_path: Path,
) -> Job:
    """A job whose Python step writes its process id to ``pid`` and sleeps."""
    steps = [{"python": "steps:step"}, {"model": "digits-mlp"}]
    policy_file = policy_of(workflows={"classify": {"steps": steps}})
    lines = [
        "import os, pathlib, time",
        "def step(pixels):",
        f"    pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))",
        "    time.sleep(600)",
    ]
    (policy_file.folder / "steps.py").write_text("\n".join(lines))
    candidate = Candidate("classify", (Variant("digits-mlp", "onnxruntime", "fp32"),))
    effort = Effort(slice_s=0.1, limit_s=1.0, give_up_ms=1000.0, window_s=0.1)
    return Job(policy_file, (candidate,), artifacts, effort, tmp_path / "results", cores=2)


def test_job_comes_back_from_its_json(hanging_job: Job) -> None:
    assert Job.from_json(json.loads(json.dumps(hanging_job.to_json()))) == hanging_job


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_child_does_not_outlive_a_killed_parent(hanging_job: Job, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(hanging_job.to_json()))
    with subprocess.Popen([sys.executable, "-c", LAUNCHER, str(tmp_path / "job.json")]) as parent:
        pid = until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        parent.send_signal(signal.SIGKILL)
    until(lambda: ended(int(pid)) and "ended")


def until(found: Callable[[], str | bool]) -> str:
    """Return what *found* does once it finds something."""
    give_up = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        if value := found():
            return str(value)
        time.sleep(0.02)
    raise TimeoutError(f"waited {PATIENCE_S} s in vain")


def ended(pid: int) -> bool:
    """Return whether *pid* is gone, or only waits to be reaped by whoever inherited it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rsplit(")", 1)[1].split()[0] == "Z"
