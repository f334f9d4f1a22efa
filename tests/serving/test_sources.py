"""Every kind of source goes to a served prediction, by one command; a real MLflow server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from live_server import fetch, server
from registry_worlds import Mlflow, mlflow_server
from source_worlds import FILES, REGISTERED, rows, save_everywhere, write_policy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


def test_one_policy_serves_every_kind_of_source(mlflow: Mlflow, tmp_path: Path) -> None:
    save_everywhere(tmp_path, mlflow.uri)
    models = {name: FILES[name] for name in ("factory", "skops", "ir")} | REGISTERED
    policy = write_policy(tmp_path, models, track={"uri": mlflow.uri})
    pixels, labels = rows(20)
    cache = {"SCANFLOW_CACHE": str(tmp_path / "cache")}
    with server(policy, environ=cache) as running:
        answer = running.predict(pixels.tolist())
        assert np.mean([int(label) for label in answer["label"]] == labels) > 0.9
        assert {name for name in models if f"{name}/" in answer["variant"]} == set(models)
        for name in models:
            (spec,) = running.get(f"/v2/models/{name}")["inputs"]
            tensor = {**spec, "shape": [20, 64], "data": pixels.ravel().tolist()}
            body = json.dumps({"inputs": [tensor]}).encode()
            headers = {"Content-Type": "application/json"}
            reply = json.loads(fetch(f"{running.url}/v2/models/{name}/infer", body, headers))
            outputs = {each["name"]: each for each in reply["outputs"]}
            scores = next(each for each in outputs.values() if each["shape"] == [20, 10])
            found = np.reshape(scores["data"], (20, 10)).argmax(axis=1)
            assert np.mean(found == labels) > 0.9, name
    with server(policy, environ=cache) as again:
        assert "to ONNX" not in again.log.read_text()
        assert again.predict(pixels[:1].tolist())["label"] == answer["label"][:1]
