"""Other people's clients, as they publish them, against the real server process."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import Server

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
CONTRACT = HERE.parents[1] / "contract"
CACHE = HERE.parents[2] / ".build" / "clients"
DIGITS = CONTRACT / "data" / "digits-test.npz"
IMAGE = "{mode: L, width: 8, height: 8, resize: bilinear, layout: flat, scale: 0.0625}"


@pytest.fixture(scope="module")
def environment() -> Path:
    """The ``bin`` folder of an environment with the pinned clients; made once, then kept."""
    wanted = (HERE / "requirements.txt").read_bytes()
    digest = hashlib.sha256(wanted + sys.version.encode()).hexdigest()[:12]
    folder = CACHE / digest
    if not (folder / "complete").exists():
        venv.create(folder, clear=True, with_pip=True)
        command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*command, "-r", HERE / "requirements.txt"], check=True, timeout=900)
        (folder / "complete").touch()
    return folder / "bin"


@pytest.fixture(scope="module", params=["bentoml", "uvicorn"])
def live(request, server, tmp_path_factory) -> Iterator[Server]:
    """The quickstart, served."""
    folder = Path(shutil.copytree(CONTRACT, tmp_path_factory.mktemp("clients") / "contract"))
    policy = folder / "policy.yaml"
    text = (folder / "quickstart.yaml").read_text()
    settings = f"serve: {{server: {request.param}, image: {IMAGE}}}\n"
    checks = "checks: [{balance: {reference: data/digits-validation.npz, target: label}}]\n"
    policy.write_text(f"{text}measurement: {{budget_s: 20}}\n{checks}{settings}")
    with server(policy) as running:
        yield running


def run(*command: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=500, cwd=HERE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_tritonclient_works_unmodified(live):
    done = run(sys.executable, HERE / "triton_session.py", live.url.removeprefix("http://"), DIGITS)
    assert done.stdout.endswith("ok\n")


@pytest.mark.parametrize("session", ["kserve", "mlflow"])
def test_sdk_works_unmodified(live, environment, session):
    script = HERE / f"{session}_session.py"
    done = run(environment / "python", script, live.url.removeprefix("http://"), DIGITS)
    assert done.stdout.endswith("ok\n")


def test_schemathesis_finds_nothing_wrong_with_our_description(live, environment, tmp_path):
    command = [environment / "schemathesis", "--config-file", HERE / "schemathesis.toml", "run"]
    options = ["--checks", "all", "--max-examples", "15", "--seed", "1", "--no-color"]
    report = ["--report-dir", tmp_path, "--generation-database", "none"]
    done = run(*command, f"{live.url}/openapi.json", *options, *report)
    assert "No issues found" in done.stdout
