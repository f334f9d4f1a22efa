"""Every kind of source goes to a served prediction, by one command; a real MLflow server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from live_server import Server, fetch, server
from registry_worlds import Mlflow, mlflow_server
from source_worlds import FILES, REGISTERED, rows, save_everywhere, write_policy

pytestmark = pytest.mark.slow
# In a process of its own: bentoml warns of its own insides, and warnings are errors.
KEEP = """
import shutil, sys, bentoml
with bentoml.models.create("digits:v1") as kept:
    shutil.copy(sys.argv[1], kept.path)
"""
FLAVOURS = {"sklearn": "clf", "onnx": "onnx", "pytorch": "net"}


@dataclass(frozen=True)
class World:
    """Trained classifiers of the digits, wherever a source may lie.

    Attributes:
        environ: What the servers of the module share.
    """

    folder: Path
    mlflow: Mlflow
    environ: dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sources")
    environ = {"SCANFLOW_CACHE": str(folder / "cache"), "BENTOML_HOME": str(folder / "bentoml")}
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as mlflow:
        save_everywhere(folder, mlflow.uri)
        _spread(folder, mlflow, environ)
        yield World(folder, mlflow, environ)


def _spread(folder: Path, mlflow: Mlflow, environ: dict[str, str]) -> None:
    """Keep the models where `save_everywhere` does not: in BentoML's store, with external data."""
    kept = [sys.executable, "-c", KEEP, str(folder / "net.skops")]
    done = subprocess.run(kept, capture_output=True, text=True, env=os.environ | environ)
    assert done.returncode == 0, done.stderr
    model = onnx.load(folder / "net.onnx")
    settings = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 0}
    onnx.save(model, folder / "external.onnx", **settings)
    for name in FLAVOURS.values():
        alias = {"name": name, "alias": "champion", "version": "1"}
        mlflow.call("registered-models/alias", alias)


def assert_reads_digits(running: Server, name: str) -> None:
    """Hold the model *name* to the labels, through the Open Inference Protocol."""
    pixels, labels = rows(20)
    (spec,) = running.get(f"/v2/models/{name}")["inputs"]
    tensor = {**spec, "shape": [20, 64], "data": pixels.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Content-Type": "application/json"}
    reply = json.loads(fetch(f"{running.url}/v2/models/{name}/infer", body, headers))
    outputs = {each["name"]: each for each in reply["outputs"]}
    scores = next(each for each in outputs.values() if each["shape"] == [20, 10])
    found = np.reshape(scores["data"], (20, 10)).argmax(axis=1)
    assert np.mean(found == labels) > 0.9, name


@pytest.mark.parametrize(
    "name", ["factory", "program", "external", "ir", "skops", "joblib", "bento", "bento-latest"]
)
def test_source_goes_to_a_served_prediction(world: World, tmp_path: Path, name: str) -> None:
    sources = {
        **FILES,
        "external": {"source": "external.onnx"},
        "bento": {"source": "bento:digits:v1"},
        "bento-latest": {"source": "bento:digits"},
    }
    policy = write_policy(world.folder, {name: sources[name]}, serve={"server": "uvicorn"})
    with server(policy, state=tmp_path / "state", environ=world.environ) as running:
        assert_reads_digits(running, name)


@pytest.mark.parametrize("address", ["models:/{}/1", "models:/{}@champion", "runs:/{run}/{}"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_address_of_mlflow_goes_to_a_served_prediction(
    world: World, tmp_path: Path, flavour: str, address: str
) -> None:
    name = FLAVOURS[flavour]
    source = address.format(name, run=world.mlflow.version(name, "1")["run_id"])
    sections = {"track": {"uri": world.mlflow.uri}, "serve": {"server": "uvicorn"}}
    policy = write_policy(world.folder, {"net": {"source": source}}, **sections)
    with server(policy, state=tmp_path / "state", environ=world.environ) as running:
        assert_reads_digits(running, "net")


def test_one_policy_serves_sources_of_every_framework(world: World, tmp_path: Path) -> None:
    models = {name: FILES[name] for name in ("factory", "skops", "ir")} | REGISTERED
    policy = write_policy(world.folder, models, track={"uri": world.mlflow.uri})
    pixels, labels = rows(20)
    settings = {"state": tmp_path / "state", "environ": world.environ}
    with server(policy, **settings) as running:
        answer = running.predict(pixels.tolist())
        assert np.mean([int(label) for label in answer["label"]] == labels) > 0.9
        assert {name for name in models if f"{name}/" in answer["variant"]} == set(models)
        for name in models:
            assert_reads_digits(running, name)
    with server(policy, **settings) as again:
        assert "to ONNX" not in again.log.read_text()
        assert again.predict(pixels[:1].tolist())["label"] == answer["label"][:1]
