"""Trained classifiers of the digits, saved in every way that a policy's ``source:`` takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import yaml

DATA = Path(__file__).parent / "contract" / "data"
TRUST = "I trust this file"
NET = """
    import torch


    def net():
        layers = torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        return torch.nn.Sequential(*layers)
"""
# In a process of its own: torch, skops and openvino warn of their own insides, and warnings are
# errors here.
SAVE = """
    import sys, warnings
    from pathlib import Path

    warnings.simplefilter("ignore")
    import joblib, numpy as np, openvino, skops.io, torch
    from safetensors.torch import save_file
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    folder, data = Path(sys.argv[1]), Path(sys.argv[2])
    sys.path.insert(0, str(folder))
    from nets import net

    with np.load(data) as file:
        pixels, labels = file["pixels"].astype("float32"), file["label"]
    trained = MLPClassifier((32,), max_iter=120, random_state=0).fit(pixels / 16, labels)
    network = net()
    with torch.no_grad():
        for number, layer in enumerate((network[0], network[2])):
            layer.weight.copy_(torch.from_numpy(trained.coefs_[number].T))
            layer.bias.copy_(torch.from_numpy(trained.intercepts_[number]))
        network[0].weight /= 16
    network.eval()
    estimator = LogisticRegression(max_iter=2000).fit(pixels, labels)
    save_file(network.state_dict(), folder / "net.safetensors")
    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(network, (torch.zeros(2, 64),), dynamic_shapes=(rows,))
    torch.export.save(program, folder / "net.pt2")
    onnx = torch.onnx.export(
        network, (torch.zeros(2, 64),), dynamic_shapes=(rows,), input_names=["pixels"],
        output_names=["logits"], dynamo=True, verbose=False,
    )
    onnx.save(folder / "net.onnx")
    openvino.save_model(openvino.convert_model(folder / "net.onnx"), folder / "net.xml",
                        compress_to_fp16=False)
    skops.io.dump(estimator, folder / "net.skops")
    joblib.dump(estimator, folder / "net.joblib")
    if len(sys.argv) > 3:
        import mlflow

        mlflow.set_tracking_uri(sys.argv[3])
        plain = {"pip_requirements": []}  # else a process more finds out what each model imports
        with mlflow.start_run():
            mlflow.sklearn.log_model(
                estimator, name="clf", registered_model_name="clf", input_example=pixels[:2],
                serialization_format="skops", **plain)
            mlflow.onnx.log_model(
                onnx.model_proto, name="onnx", registered_model_name="onnx", **plain)
            mlflow.pytorch.log_model(
                network, name="net", registered_model_name="net", input_example=pixels[:2],
                serialization_format="pt2", **plain)
        mlflow.MlflowClient().set_registered_model_alias("onnx", "champion", "1")
"""
FILES: dict[str, dict[str, Any]] = {
    "factory": {"source": "torch:nets:net", "weights": "net.safetensors"},
    "program": {"source": "net.pt2"},
    "onnx": {"source": "net.onnx"},
    "ir": {"source": "net.xml"},
    "skops": {"source": "net.skops"},
    "joblib": {"source": "net.joblib", "trust_pickle": TRUST},
}
REGISTERED: dict[str, dict[str, Any]] = {
    "mlflow-sklearn": {"source": "models:/clf/1"},
    "mlflow-onnx": {"source": "models:/onnx@champion"},
    "mlflow-torch": {"source": "models:/net/1"},
}


def save_everywhere(folder: Path, uri: str = "") -> None:
    """Write the classifiers into *folder* in every form, and to the MLflow server at *uri*."""
    (folder / "nets.py").write_text(dedent(NET))
    (folder / "digits.npz").write_bytes((DATA / "digits-validation.npz").read_bytes())
    command = [sys.executable, "-c", dedent(SAVE), str(folder), str(DATA / "digits-train.npz")]
    done = subprocess.run([*command, *([uri] if uri else [])], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def write_policy(folder: Path, models: Mapping[str, Mapping[str, Any]], **sections: Any) -> Path:
    """Write a policy in which a committee of all *models* answers, each in fp32 by default."""
    variants = {"backends": ["onnxruntime"], "precisions": ["fp32"], "threads": [1]}
    loaded = {
        name: {
            "variants": variants | ({"backends": ["openvino"]} if name == "ir" else {}),
            **model,
        }
        for name, model in models.items()
    }
    branches = [{"model": name} for name in models]
    document = {
        "apiVersion": "scanflow/v1",
        "name": "digits",
        "models": loaded,
        "validation": {"data": "digits.npz", "input": "pixels", "target": "label"},
        "workflows": {"all": {"steps": [{"parallel": branches, "combine": "mean"}]}},
        "targets": [{"run": "all"}],
        "objective": {"maximize": "accuracy"},
        "measurement": {"budget_s": 600},
        **sections,
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def rows(count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return pixels and labels of test digits."""
    with np.load(DATA / "digits-test.npz") as file:
        return file["pixels"][:count].astype(np.float32), file["label"][:count]
