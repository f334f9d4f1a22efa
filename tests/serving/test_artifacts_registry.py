"""``scanflow-serve artifacts publish`` and ``fetch``, by running them against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from registry_worlds import Mlflow, converted
from store_worlds import REFUSED, key_of

from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.store import ArtifactStore

pytestmark = pytest.mark.slow
CONSOLE_SCRIPT = Path(sys.executable).with_name("scanflow-serve")
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(mlflow: Mlflow) -> Mlflow:
    return mlflow


@pytest.fixture
def maker(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "maker" / "store")


@pytest.fixture
def device(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "device" / "store")


def artifacts(
    store: ArtifactStore, *arguments: str, uri: str = "", code: int = 0
) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environ["SCANFLOW_CACHE"] = str(store.folder.parent)
    if uri:
        environ["MLFLOW_TRACKING_URI"] = uri
    done = subprocess.run(
        [CONSOLE_SCRIPT, "artifacts", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=environ,
    )
    assert done.returncode == code, done.stderr
    return done


def test_artifact_goes_from_one_store_to_another(
    server: Mlflow, maker: ArtifactStore, device: ArtifactStore
) -> None:
    server.register("digits")
    artifact = converted(maker, "models:/digits/1")
    arguments = ("publish", artifact.id[:8], "--to", "models:/digits", "--alias", "pi")
    done = artifacts(maker, *arguments, uri=server.uri)
    assert done.stdout == f"{artifact.id} published as models:/digits/2, models:/digits@pi\n"
    again = artifacts(maker, *arguments, "--tracking-uri", server.uri, "--json")
    assert json.loads(again.stdout)["created"] is False

    fetched = artifacts(device, "fetch", "models:/digits/1", uri=server.uri)
    assert fetched.stdout == f"{artifact.id}  0.00 MB  net onnx fp32\n"
    by_alias = artifacts(device, "fetch", "models:/digits@pi", "--json", uri=server.uri)
    (found,) = json.loads(by_alias.stdout)["artifacts"]
    assert Artifact.from_json(found) == device.find(artifact.id)


def test_fetch_for_another_host_takes_what_that_host_can_load(
    server: Mlflow, maker: ArtifactStore, device: ArtifactStore, tmp_path: Path
) -> None:
    server.register("cross")
    key = converted(maker, "models:/cross/1", "openvino").id
    artifacts(maker, "publish", key, "--to", "models:/cross", uri=server.uri)
    for libc, code in (("glibc 2.31", 1), ("glibc 2.36", 0)):
        host = HostProfile("raspberry-pi", "aarch64", Cpu(4), 4096, libc=libc)
        file = tmp_path / "host.json"
        file.write_text(json.dumps(host.to_json()))
        arguments = ("fetch", "models:/cross/1", "--for", str(file))
        done = artifacts(device, *arguments, uri=server.uri, code=code)
        assert ("scanflow-serve convert models:/cross/1 --for host.json" in done.stderr) == code
        assert (key in done.stdout) != code


def test_publish_and_fetch_need_a_server(maker: ArtifactStore) -> None:
    for arguments in (("publish", "ab", "--to", "models:/net"), ("fetch", "models:/net/1")):
        done = artifacts(maker, *arguments, code=2)
        assert "got neither --tracking-uri nor MLFLOW_TRACKING_URI" in done.stderr


def test_publish_of_a_refused_conversion_says_why(maker: ArtifactStore) -> None:
    maker.refuse(key_of("net"), REFUSED)
    done = artifacts(maker, "publish", key_of("net"), "--to", "models:/net", uri=NOWHERE, code=2)
    assert "output 'y' must be finite, got 3 NaN or Inf." in done.stderr


def test_publish_to_what_is_no_registered_model_is_a_usage_error(maker: ArtifactStore) -> None:
    done = artifacts(maker, "publish", "ab", "--to", "digits", uri=NOWHERE, code=2)
    assert done.stderr == "--to must read models:/NAME, got 'digits'.\n"


def test_fetch_without_a_network_fails_with_one_sentence(device: ArtifactStore) -> None:
    done = artifacts(device, "fetch", "models:/net/1", uri=NOWHERE, code=1)
    assert f"the MLflow server {NOWHERE} must have models:/net/1, got: " in done.stderr
    assert "Start the server, or name it in --tracking-uri" in done.stderr
    assert "Traceback" not in done.stderr
