"""A real MLflow server on loopback, and small converted models that really run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openvino
import tiny_models

from scanflow_serve.runtime.artifacts import Artifact, Format, Manifest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.store import ArtifactStore, artifact_key
from scanflow_serve.runtime.stored import Made

LIMIT_S = 180  # importing the server takes 20 s on a busy machine
# Its queues of evaluations are five more processes of 240 MB, which no registry needs.
NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True)
class Mlflow:
    """A running server.

    Attributes:
        artifacts: Where it keeps them.
    """

    uri: str
    artifacts: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(30)

    def call(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return what its REST API answers to GET, or to POST where there is a *body*."""
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow/{path}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def register(self, name: str) -> None:
        """Register model *name* with a version 1, which is no artifact."""
        self.call("registered-models/create", {"name": name})
        self.call("model-versions/create", {"name": name, "source": "s3://elsewhere/model"})

    def version(self, name: str, version: str) -> Any:
        found = self.call(f"model-versions/get?name={name}&version={version}")["model_version"]
        return {**found, "tags": {tag["key"]: tag["value"] for tag in found.get("tags", ())}}

    def versions(self, name: str) -> list[str]:
        found = self.call(f"model-versions/search?filter=name%3D'{name}'")
        return sorted(v["version"] for v in found.get("model_versions", ()))

    def tag(self, name: str, version: str, key: str, value: str) -> None:
        body = {"name": name, "version": version, "key": key, "value": value}
        self.call("model-versions/set-tag", body)

    def copy(self, name: str, version: str, to: str) -> str:
        """Return the run of a copy, of its own files, as the next version of registered model *to*.

        So that a test may spoil it; publishing takes two processes and seconds.
        """
        original = self.version(name, version)
        info = self.call(f"runs/get?run_id={original['run_id']}")["run"]["info"]
        made = self.call("runs/create", {"experiment_id": info["experiment_id"]})["run"]["info"]
        files = self.file(original["run_id"], "model")
        shutil.copytree(files, files.parents[2] / made["run_id"] / "artifacts" / "model")
        tags = original["tags"] | {"scanflow.source_version": f"models:/{to}/1"}
        body = {"name": to, "source": f"{made['artifact_uri']}/model", "run_id": made["run_id"]}
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        self.call("model-versions/create", {**body, "tags": listed})
        return str(made["run_id"])

    def file(self, run_id: str, path: str) -> Path:
        """Return a file of a run, where the server keeps it."""
        (found,) = self.artifacts.glob(f"*/{run_id}/artifacts/{path}")
        return found


@contextmanager
def mlflow_server(folder: Path) -> Iterator[Mlflow]:
    """Give a server that keeps everything in *folder*; it is gone afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    artifacts = folder / "artifacts"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", str(artifacts)),
    ]
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=os.environ | NO_JOBS,
        )
    running = Mlflow(f"http://127.0.0.1:{port}", artifacts, process)
    try:
        _wait(running.uri, process, log)
        yield running
    finally:
        running.stop()


def _wait(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end_s, log.read_text()[-2000:]
            time.sleep(0.3)


def converted(
    store: ArtifactStore, source: str, form: Format = "onnx", *, hidden: int = 0
) -> Artifact:
    """Return a small classifier in *store*, as if it had been converted from *source*."""
    manifest = Manifest(
        source=source,
        source_digest="5a" * 32,
        route=("export", "clean"),
        tools={"onnx": "1.23.2"},
        verification={"onnxruntime": {"logits": {"error": 1e-7, "agreement": 1.0}}},
        effective={"onnxruntime": "fp32"} if form == "onnx" else {"openvino": "fp32"},
        durations_s={"clean": 0.5},
    )
    if "@" in source:
        manifest = replace(manifest, lineage=f"{source.partition('@')[0]}/1")

    def make(folder: Path) -> Made:
        file = tiny_models.linear(folder / "net.onnx", hidden=hidden)
        signature = registry.backend("onnxruntime").signature(str(file))
        files: tuple[Path, ...] = (file,)
        if form == "openvino":
            files = (folder / "net.xml", folder / "net.bin")
            openvino.save_model(openvino.convert_model(file), files[0], compress_to_fp16=False)
        return Made("net", form, "fp32", files, signature, manifest)

    key = artifact_key(source, [form], {"hidden": hidden}, {})
    artifact = store.publish(key, make)
    assert isinstance(artifact, Artifact)
    return artifact
