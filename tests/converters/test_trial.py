"""Converted files that a backend loads and runs, and that are wrong all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_models
import yaml
from onnx import helper

from scanflow_serve.converters.sources import ingest
from scanflow_serve.converters.trial import Trial, answers
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.backends import registry

# Class 0 where the first number is the larger; in 5 of 100 rows it is by 0.02 only.
ROWS = np.random.default_rng(0).uniform(0.5, 1.0, (100, 2)).astype(np.float32)
ROWS[:, 0] = np.where(np.arange(100) < 5, ROWS[:, 1] + 0.02, ROWS[:, 1] + 0.5)


def write(path: Path, *, bias: float = 0.0, output: str = "logits", dtype: str = "float32") -> Path:
    """Write a model that gives its input; *bias* speaks for class 1."""
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["sum"]),
        helper.make_node("Cast", ["sum"], [output], to=tiny_models.ELEMENT[dtype]),
    ]
    weights = {"bias": np.array([0.0, bias], np.float32)}
    rows = ["batch", 2]
    return tiny_models.write(
        path, nodes, {"x": ("float32", rows)}, {output: (dtype, rows)}, weights
    )


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    write(tmp_path / "net.onnx")
    np.savez(tmp_path / "rows.npz", x=ROWS, label=np.zeros(100, np.int64))
    document = {
        "apiVersion": "scanflow/v1",
        "name": "p",
        "models": {"net": {"source": "net.onnx", "max_accuracy_drop": 0.01}},
        "validation": {"data": "rows.npz", "input": "x", "target": "label"},
        "workflows": {"w": {"steps": [{"model": "net"}]}},
        "targets": [{"run": "w"}],
        "objective": {"maximize": "accuracy"},
    }
    policy_file = load_policy(tmp_path / "policy.yaml", text=yaml.safe_dump(document))
    source = ingest("net", policy_file.policy.models["net"], policy_file)
    return Trial("net", policy_file, source.signature, lambda rows: answers(source, rows))


def judge(trial: Trial, path: Path) -> str:
    """Return why *path* is refused as an int8 conversion; empty if it is not."""
    made = tiny_models.artifact(path, registry.backend("onnxruntime"), precision="int8")
    verdict = trial.judge(made)
    return "" if verdict.refusal is None else verdict.refusal.reason


def test_file_that_answers_as_its_source_passes(trial: Trial, tmp_path: Path) -> None:
    assert judge(trial, write(tmp_path / "same.onnx")) == ""


def test_file_that_loses_more_accuracy_than_is_allowed_is_refused(
    trial: Trial, tmp_path: Path
) -> None:
    """Its numbers and 95 % of its classes are as the source's: only the labels tell."""
    assert judge(trial, write(tmp_path / "worse.onnx", bias=0.05)) == (
        "accuracy 0.950 of the converted file is 0.05 below the source's 1.000, "
        "max_accuracy_drop allows 0.01"
    )


def test_file_that_gives_nan_is_refused(trial: Trial, tmp_path: Path) -> None:
    reason = judge(trial, write(tmp_path / "nan.onnx", bias=float("nan")))
    assert reason.startswith("output 'logits' must be finite")


@pytest.mark.parametrize(
    ("settings", "got"),
    [
        ({"output": "scores"}, "got {'scores': 'float32'}"),
        ({"dtype": "float64"}, "got {'logits': 'float64'}"),
    ],
)
def test_file_whose_outputs_are_named_or_typed_otherwise_is_refused(
    trial: Trial, tmp_path: Path, settings: dict[str, str], got: str
) -> None:
    reason = judge(trial, write(tmp_path / "other.onnx", **settings))
    assert reason == f"outputs must stay {{'logits': 'float32'}}, {got}"
