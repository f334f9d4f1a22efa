"""BentoML's own commands serve and build the service."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hatchling.builders.wheel import WheelBuilder
from live_server import fetch, is_ready, running, wait_until

from scanflow_serve.serving.locks import StateLock

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BENTOML = str(Path(sys.executable).with_name("bentoml"))
SERVICE = "scanflow_serve.serving.service:Scanflow"


@pytest.fixture
def environ(shared_cache: dict[str, str], tmp_path: Path) -> dict[str, str]:
    home = {"BENTOML_HOME": str(tmp_path / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    return shared_cache | home


@contextmanager
def bentoml_serve(
    what: str, cwd: Path, environ: Mapping[str, str]
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [BENTOML, "serve", what, "--port", str(port)]
    with running(command, cwd / "logs", environ, cwd=cwd) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: is_ready(url), process, cwd / "logs" / "log")
        yield url, process


def predicted(url: str, contract: Path) -> tuple[Any, Any]:
    """Return the label that the server gives the first test row, and the true one."""
    with np.load(contract / "data" / "digits-test.npz") as data:
        body = json.dumps({"inputs": data["pixels"][:1].tolist()}).encode()
        truth = int(data["label"][0])
    reply = json.loads(fetch(f"{url}/predict", body, {"Content-Type": "application/json"}))
    return int(reply["label"][0]), truth


def bentoml(
    *arguments: str, cwd: Path, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BENTOML, *arguments],
        cwd=cwd,
        env=os.environ | dict(environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_bentoml_serve_answers_by_our_routes_alone(contract: Path, environ: dict[str, str]) -> None:
    environ |= {"SCANFLOW_POLICY": "quickstart.yaml"}
    with bentoml_serve(SERVICE, contract, environ) as (url, process):
        label, truth = predicted(url, contract)
        assert label == truth
        assert json.loads(fetch(f"{url}/livez")) == {"live": True}
        assert b"scanflow_" in fetch(f"{url}/metrics")
        with pytest.raises(urllib.error.HTTPError, match="404") as unknown:
            fetch(f"{url}/docs.json")
        with unknown.value as reply:
            assert reply.headers["Content-Type"] == "application/problem+json"
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_no_worker_outlives_bentomls_arbiter(contract: Path, environ: dict[str, str]) -> None:
    environ |= {"SCANFLOW_POLICY": str(contract / "quickstart.yaml")}
    with bentoml_serve(SERVICE, contract, environ) as (url, process):
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        _, alive = psutil.wait_procs(family, timeout=2)
        assert not alive
        assert not is_ready(url)
        StateLock.acquire(contract / "state" / "digits").release()


def test_bentoml_serve_without_a_policy_says_what_to_set(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    done = bentoml("serve", SERVICE, cwd=tmp_path, environ=environ)
    assert done.returncode == 1
    assert "SCANFLOW_POLICY: must name a policy file" in done.stderr
    assert "Traceback" not in done.stderr


def test_bentoml_serve_on_an_open_address_without_keys_is_refused(
    contract: Path, environ: dict[str, str]
) -> None:
    environ |= {"SCANFLOW_POLICY": "quickstart.yaml"}
    done = bentoml("serve", SERVICE, "--host", "0.0.0.0", cwd=contract, environ=environ)
    assert done.returncode == 1
    assert "must be a loopback address while serve.auth is unset, got '0.0.0.0'" in done.stderr


def test_bento_of_a_policy_folder_is_built_offline_and_serves(
    contract: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    for other in ("full.yaml", "targets.yaml"):
        (contract / other).unlink()
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(contract), versions=["standard"]))
    (contract / "bentofile.yaml").write_text(
        f"service: {SERVICE}\n"
        "include: ['*.yaml', 'models/*', 'data/*']\n"
        f"python: {{wheels: [{Path(wheel).name}], lock_packages: false}}\n"
    )
    built = bentoml("build", "--output", "tag", cwd=contract, environ=environ)
    assert built.returncode == 0, built.stderr
    tag = built.stdout.strip().rpartition("__tag__:")[2]
    folder = tmp_path / "bentoml" / "bentos" / tag.replace(":", "/")
    assert list(folder.rglob("scanflow_serve-*.whl"))
    with bentoml_serve(tag, tmp_path, environ) as (url, _):
        label, truth = predicted(url, contract)
        assert label == truth
