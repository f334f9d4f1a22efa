"""Converted models through a real MLflow server: published, fetched, refused."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import yaml
from registry_worlds import Mlflow, converted

from scanflow_serve.converters import probe, registry
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry as backends
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.store import ArtifactStore
from scanflow_serve.runtime.tensors import Signature

pytestmark = pytest.mark.slow
ROWS = {"x": np.random.default_rng(1).random((5, 4), dtype=np.float32)}
OLD_PI = HostProfile(
    kind="raspberry-pi", arch="aarch64", cpu=Cpu(4), memory_mb=4096, libc="glibc 2.31"
)


@dataclass(frozen=True)
class Published:
    """An artifact, and the version of a registered model that holds it."""

    artifact: Artifact
    done: registry.PublishedVersion


@pytest.fixture(scope="module")
def server(mlflow: Mlflow) -> Mlflow:
    return mlflow


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """The store of the machine that converts."""
    return ArtifactStore(tmp_path_factory.mktemp("maker") / "store")


@pytest.fixture(scope="module")
def onnx(server: Mlflow, maker: ArtifactStore) -> Published:
    """Version 2 of registered model ``net``, made from its version 1; left as it is."""
    server.register("net")
    artifact = converted(maker, "models:/net@champion")
    return Published(artifact, publish(server, maker, artifact, "net"))


@pytest.fixture(scope="module")
def openvino(server: Mlflow, maker: ArtifactStore, onnx: Published) -> Published:
    """Version 3 of ``net``."""
    artifact = converted(maker, "models:/net/1", "openvino")
    return Published(artifact, publish(server, maker, artifact, "net"))


@pytest.fixture
def device(tmp_path: Path) -> ArtifactStore:
    """The empty store of the machine that serves."""
    return ArtifactStore(tmp_path / "device")


@pytest.fixture
def name(server: Mlflow, request: pytest.FixtureRequest) -> str:
    """A registered model of its own for each test, with a source as version 1."""
    found = re.sub(r"\W+", "-", request.node.name)
    server.register(found)
    return found


def publish(
    server: Mlflow, store: ArtifactStore, artifact: Artifact, name: str, **settings: Any
) -> registry.PublishedVersion:
    return registry.publish(artifact, store, tracking_uri=server.uri, name=name, **settings)


def fetch(server: Mlflow, store: ArtifactStore, source: str, **settings: Any) -> list[Artifact]:
    return registry.fetch(source, tracking_uri=server.uri, store=store, **settings)


def answer(artifact: Artifact) -> np.ndarray:
    backend = backends.backend("openvino" if artifact.format == "openvino" else "onnxruntime")
    return backend.open(artifact, precision="fp32", device="CPU", threads=1).run(ROWS)["logits"]


def test_published_version_says_what_it_is_and_where_it_comes_from(
    server: Mlflow, onnx: Published
) -> None:
    artifact, done = onnx.artifact, onnx.done
    assert (done.version, done.created, done.address) == ("2", True, "models:/net/2")
    tags = server.version("net", "2")["tags"]
    assert tags["scanflow.key"] == artifact.id
    assert (tags["scanflow.format"], tags["scanflow.precision"]) == ("onnx", "fp32")
    assert tags["scanflow.source"] == "models:/net@champion"
    assert tags["scanflow.source_version"] == "models:/net/1"
    assert Signature.from_json(json.loads(tags["scanflow.signature"])) == artifact.signature
    assert json.loads(tags["scanflow.verification"]) == artifact.manifest.verification


def test_published_run_holds_files_manifest_and_figures(
    server: Mlflow, maker: ArtifactStore, onnx: Published
) -> None:
    artifact, done = onnx.artifact, onnx.done
    run = server.call(f"runs/get?run_id={done.run_id}")["run"]
    assert run["info"]["status"] == "FINISHED"
    metrics = {m["key"]: m["value"] for m in run["data"]["metrics"]}
    assert metrics["verification.onnxruntime.logits.agreement"] == 1.0
    assert metrics["size_mb"] == artifact.size_bytes / 2**20
    manifest = server.file(done.run_id, "model/artifact/manifest.json")
    assert json.loads(manifest.read_bytes()) == maker.manifest(artifact.id)
    described = yaml.safe_load(server.file(done.run_id, "model/MLmodel").read_text())
    assert described["flavors"]["onnx"]["data"] == "artifact/net.onnx"


def test_artifact_is_published_once(server: Mlflow, maker: ArtifactStore, onnx: Published) -> None:
    versions = server.versions("net")
    again = publish(server, maker, onnx.artifact, "net", alias="pi")
    assert again == replace(onnx.done, created=False)
    assert server.versions("net") == versions
    found = server.call("registered-models/alias?name=net&alias=pi")
    assert found["model_version"]["version"] == "2"


def test_unknown_registered_model_is_made(server: Mlflow, maker: ArtifactStore) -> None:
    done = publish(server, maker, converted(maker, "models/net.onnx"), "brand-new")
    assert done.address == "models:/brand-new/1"
    assert "scanflow.source_version" not in server.version("brand-new", "1")["tags"]


@pytest.mark.parametrize("address", ["1", "latest", "2"])
def test_converted_model_is_fetched_by_its_source_or_itself(
    server: Mlflow, device: ArtifactStore, onnx: Published, address: str
) -> None:
    """The latest version is the latest source, though the artifact is newer."""
    artifact = onnx.artifact
    (fetched,) = fetch(server, device, f"models:/net/{address}", host=OLD_PI)
    assert fetched.path.is_relative_to(device.folder)
    assert fetched == replace(artifact, path=fetched.path)
    assert device.find(artifact.id) == fetched
    np.testing.assert_array_equal(answer(fetched), answer(artifact))


@pytest.mark.usefixtures("onnx", "openvino")
def test_fetch_takes_every_format_that_the_host_can_load(
    server: Mlflow, device: ArtifactStore
) -> None:
    fetched = fetch(server, device, "models:/net/1", host=OLD_PI)  # no OpenVINO there
    assert [artifact.format for artifact in fetched] == ["onnx"]
    fetched = fetch(server, device, "models:/net/1")
    assert {artifact.format for artifact in fetched} == {"onnx", "openvino"}
    np.testing.assert_allclose(answer(fetched[0]), answer(fetched[1]), rtol=1e-4)


def test_what_is_in_the_store_is_not_checked_again(
    server: Mlflow, device: ArtifactStore, onnx: Published
) -> None:
    checked: list[Artifact] = []
    for _ in range(2):
        fetch(server, device, onnx.done.address, check=lambda a, folder: checked.append(a))
    assert len(checked) == 1


def test_host_without_a_converted_model_is_told_what_to_run_where(
    server: Mlflow, device: ArtifactStore, openvino: Published, name: str
) -> None:
    server.copy("net", openvino.done.version, name)
    with pytest.raises(ArtifactError) as caught:
        fetch(server, device, f"models:/{name}/1", host=OLD_PI)
    assert str(caught.value).splitlines() == [
        f"models:/{name}/1: a converted model of format onnx must be in the registry for the host, "
        "got 2 (openvino fp32). On the host, run:",
        "  scanflow-serve profile --json > host.json",
        "On a machine with scanflow-serve[convert,track], run:",
        f"  export MLFLOW_TRACKING_URI={server.uri}",
        f"  scanflow-serve convert models:/{name}/1 --for host.json",
        f"  scanflow-serve artifacts publish KEY --to models:/{name}"
        "  # for each KEY of: scanflow-serve artifacts list",
    ]


def test_damaged_file_is_refused_and_a_sound_one_is_used(
    server: Mlflow,
    device: ArtifactStore,
    onnx: Published,
    openvino: Published,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.copy("net", onnx.done.version, name)
    run_id = server.copy("net", openvino.done.version, name)
    damaged = server.file(run_id, "model/artifact/net.bin")
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        fetched = fetch(server, device, f"models:/{name}/1")
    assert [artifact.id for artifact in fetched] == [onnx.artifact.id]
    assert "converted model 3 (openvino fp32) may not be served" in caplog.text
    assert "SHA-256 must be" in caplog.text
    assert device.find(openvino.artifact.id) is None


def test_model_that_answers_otherwise_here_is_refused(
    server: Mlflow, device: ArtifactStore, onnx: Published, name: str
) -> None:
    run_id = server.copy("net", onnx.done.version, name)
    outputs = server.file(run_id, f"model/probe/{probe.OUTPUTS}")
    shutil.copy(server.file(run_id, f"model/probe/{probe.INPUTS}"), outputs)
    with pytest.raises(ArtifactError, match="against what it answered where made: output 'x'"):
        fetch(server, device, f"models:/{name}/1")
    assert device.list() == ()


@pytest.mark.parametrize("tag", ["key", "precision"])
def test_version_whose_tags_lie_is_refused(
    server: Mlflow, device: ArtifactStore, onnx: Published, name: str, tag: str
) -> None:
    server.copy("net", onnx.done.version, name)
    server.tag(name, "2", f"scanflow.{tag}", "ab" * 32)
    with pytest.raises(ArtifactError, match=r"may not be served: it must be .*, as tagged, got"):
        fetch(server, device, f"models:/{name}/1")
    assert device.list() == ()


def test_version_with_a_key_that_is_a_path_is_ignored(
    server: Mlflow, device: ArtifactStore, onnx: Published, name: str
) -> None:
    server.copy("net", onnx.done.version, name)
    server.tag(name, "2", "scanflow.key", "../../outside")
    with pytest.raises(ArtifactError, match="got none"):
        fetch(server, device, f"models:/{name}/1")


def test_version_whose_files_are_gone_is_refused(
    server: Mlflow, device: ArtifactStore, onnx: Published, name: str
) -> None:
    shutil.rmtree(server.file(server.copy("net", onnx.done.version, name), "model"))
    with pytest.raises(ArtifactError, match=rf"must have models:/{name}/1, got: "):
        fetch(server, device, f"models:/{name}/1")


def test_failed_upload_leaves_no_version(server: Mlflow, maker: ArtifactStore, name: str) -> None:
    artifact = converted(maker, f"models:/{name}/1")
    away = server.artifacts.with_name("away")
    server.artifacts.rename(away)
    server.artifacts.write_text("a full disk")
    try:
        with pytest.raises(ArtifactError, match=rf"{server.uri} must take models:/{name}, got: "):
            publish(server, maker, artifact, name)
    finally:
        server.artifacts.unlink()
        away.rename(server.artifacts)
    assert server.versions(name) == ["1"]
    assert publish(server, maker, artifact, name).created


@pytest.mark.parametrize("address", ["{}/99", "none/1", "{}@none"])
def test_version_that_is_not_there_is_said_so(
    server: Mlflow, device: ArtifactStore, name: str, address: str
) -> None:
    source = f"models:/{address.format(name)}"
    with pytest.raises(ArtifactError, match=rf"{server.uri} must have {source}, .* Look up its"):
        fetch(server, device, source)


@pytest.mark.parametrize("source", ["models:/net", "runs:/1/net", "models:/a/b/1", "net.onnx"])
def test_source_that_is_no_version_is_refused(device: ArtifactStore, source: str) -> None:
    with pytest.raises(ArtifactError, match=r"must read models:/NAME/VERSION or .*, got"):
        registry.fetch(source, tracking_uri="http://127.0.0.1:9", store=device)


def test_server_that_does_not_answer_is_named_without_its_password(
    device: ArtifactStore, maker: ArtifactStore
) -> None:
    artifact = converted(maker, "models:/net/1")
    uri = "http://me:secret@127.0.0.1:9"
    with pytest.raises(ArtifactError, match=r"MLflow server http://127\.0\.0\.1:9 must") as fetched:
        registry.fetch("models:/net/1", tracking_uri=uri, store=device)
    with pytest.raises(ArtifactError, match="Start the server, or name it in") as published:
        registry.publish(artifact, maker, tracking_uri=uri, name="net")
    assert "Start the server" in str(fetched.value)
    assert "secret" not in str(fetched.value) + str(published.value)


def test_without_the_server_what_was_fetched_before_is_used(
    maker: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    artifact = converted(maker, "models:/net@champion")
    with caplog.at_level(logging.WARNING):
        fetched = registry.fetch("models:/net/1", tracking_uri="http://127.0.0.1:9", store=maker)
    assert artifact in fetched
    assert "What was made from it before is used." in caplog.text


def test_refused_login_names_the_variables(device: ArtifactStore) -> None:
    class Closed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        do_POST = do_GET

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Closed) as closed:
        threading.Thread(target=closed.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{closed.server_port}"
        with pytest.raises(ArtifactError, match=r"401.* Set MLFLOW_TRACKING_USERNAME"):
            registry.fetch("models:/net/1", tracking_uri=uri, store=device)
        closed.shutdown()


def test_missing_mlflow_names_the_extra(
    device: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'scanflow-serve\[track\]'"):
        registry.fetch("models:/net/1", tracking_uri="http://127.0.0.1:9", store=device)


def test_artifact_that_is_not_in_the_store_is_not_published(
    maker: ArtifactStore, device: ArtifactStore
) -> None:
    artifact = converted(maker, "models:/net/1")
    with pytest.raises(ArtifactError, match=rf"must be in the store {device.folder}"):
        registry.publish(artifact, device, tracking_uri="http://127.0.0.1:9", name="net")


def test_mlflow_itself_loads_the_published_model(server: Mlflow, onnx: Published) -> None:
    # In a process of its own: mlflow warns of its own insides, and warnings are errors.
    code = """
        import sys, mlflow
        mlflow.set_tracking_uri(sys.argv[1])
        model = mlflow.onnx.load_model(sys.argv[2])
        signature = mlflow.models.get_model_info(sys.argv[2]).signature
        print(model.graph.output[0].name, signature.inputs.input_names(), signature.outputs.inputs)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code), server.uri, onnx.done.address],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == ("logits ['x'] ['logits': Tensor('float32', (-1, 3))]")
