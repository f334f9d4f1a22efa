"""Against a real MLflow server, started once for the module."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from origin_worlds import Find, assert_answers_alike
from registry_worlds import Mlflow, mlflow_server

from scanflow_serve.policies.errors import ArtifactError

pytestmark = pytest.mark.slow
TRUST = "I trust this file"
# In a process of its own: mlflow and torch warn of their own insides, and warnings are errors.
LOG = """
    import json, sys, warnings
    import mlflow, numpy as np, onnx, torch
    from mlflow.models import infer_signature
    from onnx import TensorProto, helper, numpy_helper
    from sklearn.linear_model import LogisticRegression

    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(sys.argv[1])
    rows = np.random.default_rng(0).random((20, 4)).astype("float32")
    classes = np.arange(20) % 3
    forest = LogisticRegression().fit(rows, classes)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3)).eval()
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.ones((4, 3), "float32"), "w")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    signature = infer_signature(rows, network(torch.from_numpy(rows)).detach().numpy())
    plain = {"pip_requirements": []}  # else a process more finds out what each model imports
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(forest, name="skops", registered_model_name="skops",
                                 input_example=rows, serialization_format="skops", **plain)
        mlflow.sklearn.log_model(forest, name="pickled", registered_model_name="pickled",
                                 serialization_format="cloudpickle", **plain)
        mlflow.onnx.log_model(proto, name="onnx", registered_model_name="onnx", **plain)
        mlflow.onnx.log_model(proto, name="onnx2", registered_model_name="onnx", **plain)
        mlflow.pytorch.log_model(network, name="torch", registered_model_name="torch",
                                 signature=signature, serialization_format="pickle", **plain)
        mlflow.pytorch.log_model(network, name="pt2", registered_model_name="pt2",
                                 input_example=rows, serialization_format="pt2", **plain)
        mlflow.onnx.save_model(proto, sys.argv[2], **plain)
        mlflow.log_artifacts(sys.argv[2], "plain")
    client = mlflow.MlflowClient()
    client.set_registered_model_alias("onnx", "champion", "1")
    print(json.dumps(run.info.run_id))
"""


@dataclass(frozen=True)
class Server:
    """An MLflow server with models, logged by run *run_id*; its own, because a test stops it."""

    mlflow: Mlflow
    run_id: str

    @property
    def uri(self) -> str:
        return self.mlflow.uri


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder) as running:
        script = [sys.executable, "-c", dedent(LOG), running.uri, str(folder / "saved")]
        logged = subprocess.run(script, capture_output=True, text=True, cwd=folder, timeout=400)
        assert logged.returncode == 0, logged.stderr[-3000:]
        yield Server(running, logged.stdout.strip().split("\n")[-1].strip('"'))


ROWS = np.random.default_rng(1).random((5, 4), dtype=np.float32)


@pytest.mark.parametrize(
    ("source", "kind", "name", "trust"),
    [
        ("models:/onnx/1", "onnx", "x", None),
        ("models:/onnx@champion", "onnx", "x", None),
        ("models:/skops/1", "skops", "input", None),
        ("models:/pickled/1", "joblib", "input", TRUST),
        ("models:/pt2/1", "torch program", "input", None),
        ("models:/torch/latest", "torch pickle", "input", TRUST),
    ],
)
def test_registered_model_answers_alike_as_onnx(
    find: Find, server: Server, tmp_path: Path, source: str, kind: str, name: str,
    trust: str | None,
) -> None:  # fmt: skip
    keys = {"trust_pickle": trust} if trust else {}
    origin = find(source, track=server.uri, **keys)
    assert origin.kind == kind
    exported = origin.export(tmp_path / "out")
    assert_answers_alike(origin, exported, {name: ROWS})
    assert origin.lineage is not None
    assert origin.lineage.address == source.replace("@champion", "/1").replace("latest", "1")
    assert origin.lineage.details["run_id"] == server.run_id


def test_model_of_a_run_answers(find: Find, server: Server, tmp_path: Path) -> None:
    origin = find(f"runs:/{server.run_id}/plain", track=server.uri)
    reference = origin.reference({"x": ROWS})["y"]
    np.testing.assert_allclose(reference, ROWS @ np.ones((4, 3), np.float32), rtol=1e-5)


@pytest.mark.parametrize("name", ["pickled", "torch"])
def test_registered_pickle_is_refused_without_consent(
    find: Find, server: Server, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ArtifactError, match=f'trust_pickle: "{TRUST}"'):
        find(f"models:/{name}/1", track=server.uri).export(tmp_path / "out")


@pytest.mark.parametrize("source", ["models:/onnx/99", "models:/none/1", "models:/onnx@none"])
def test_model_that_the_server_lacks_is_refused(find: Find, server: Server, source: str) -> None:
    rule = f"{source} must be at the MLflow server {server.uri}, got: .* Look up its name"
    with pytest.raises(ArtifactError, match=rule):
        find(source, track=server.uri)


def test_server_that_does_not_answer_is_named_without_its_password(find: Find) -> None:
    with pytest.raises(ArtifactError, match=r"MLflow server http://127\.0\.0\.1:9, got") as caught:
        find("models:/onnx/1", track="http://me:secret@127.0.0.1:9")
    assert "secret" not in str(caught.value)
    assert "Start the server, or name it in track.uri" in str(caught.value)


def test_fetched_models_need_no_server(
    find: Find, tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Last of the module: it stops the server."""
    fixed, alias = (
        find(source, track=server.uri) for source in ("models:/onnx/2", "models:/onnx@champion")
    )
    server.mlflow.stop()
    assert find("models:/onnx/2", track=server.uri).digest() == fixed.digest()
    assert not caplog.records
    assert find("models:/onnx@champion", track=server.uri).digest() == alias.digest()
    assert "models:/onnx/1 is used instead" in caplog.text
    with pytest.raises(ArtifactError, match="models:/skops/1 must be at the MLflow server"):
        find("models:/skops/1", track=server.uri)
