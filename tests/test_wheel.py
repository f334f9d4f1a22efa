"""What is published works without the checkout and without what tests need."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist, and the wheel that was built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run([*build, "--target", "sdist"], cwd=ROOT, check=True)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    subprocess.run([*build, "--target", "wheel"], cwd=source, check=True)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin folder of a fresh environment that has the wheel and its dependencies."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=True)
    (wheel,) = dist.glob("*.whl")
    install = [str(home / "bin/python"), "-m", "pip", "install", "-qq"]
    subprocess.run([*install, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    return home / "bin"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def serving(command: list[str], cwd: Path, port: int) -> Iterator[str]:
    """Run a server until the block ends; yield its URL once it is ready."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SCANFLOW"))}
    environment |= {"SCANFLOW_CACHE": str(cwd / "cache"), "BENTOML_HOME": str(cwd / "bentoml")}
    log = cwd / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, "--port", str(port)], cwd=cwd, env=environment, stdout=out, stderr=out
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):  # 5 minutes: the first start measures
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        else:
            pytest.fail(f"not ready in 5 minutes:\n{log.read_text()}")
        yield url
    finally:
        server.terminate()
        server.wait(60)


def ask(url: str, image: Path) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/predict", image.read_bytes(), {"Content-Type": "image/png"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer


def test_wheel_from_the_sdist_equals_the_wheel_from_the_checkout(
    dist: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*command, "--directory", str(tmp_path)], cwd=ROOT, check=True)
    wheels = [next(folder.glob("*.whl")) for folder in (dist, tmp_path)]
    names = [sorted(zipfile.ZipFile(wheel).namelist()) for wheel in wheels]
    assert names[0] == names[1]


def test_installed_base_has_no_training_or_test_packages(installed: Path) -> None:
    out = subprocess.run(
        [installed / "python", "-m", "pip", "list", "--format", "json"],
        capture_output=True,
        check=True,
    ).stdout
    names = {entry["name"].lower() for entry in json.loads(out)}
    assert "scanflow-serve" in names
    assert not names & {"torch", "mlflow", "pandas", "scikit-learn", "scipy", "onnx", "pytest"}


def test_imports_come_from_the_environment(installed: Path, tmp_path: Path) -> None:
    code = "import scanflow_serve.runtime as r; print(r.__file__)"
    done = subprocess.run(
        [installed / "python", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(installed.parent)


def test_quickstart_of_the_wheel_reads_digits(installed: Path, tmp_path: Path) -> None:
    command = [str(installed / "scanflow-serve"), "quickstart", "digits"]
    with serving(command, tmp_path, free_port()) as url:
        images = sorted((tmp_path / "digits/images").iterdir())
        assert [ask(url, image)["label"] for image in images] == [str(n) for n in range(10)]
        client = [str(installed / "python"), "digits/client.py", "--url", url, str(images[3])]
        done = subprocess.run(client, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.search(r"3\.png: 3, by digits-", done.stdout)
