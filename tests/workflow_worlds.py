"""Policies in a folder of their own, and sessions that compute with numpy, as `Session` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import InputError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.tensors import Array, OutputKind, Signature, Tensors, TensorSpec
from scanflow_serve.runtime.validation import Rows
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow import graph
from scanflow_serve.runtime.workflow.pipeline import Pipeline, build


class NumpySession:
    """A session whose model is a function; as strict about its inputs as a backend."""

    precision, device, threads = "fp32", "CPU", 1

    def __init__(self, signature: Signature, model: Callable[..., Sequence[Array]]) -> None:
        self.signature = signature
        self.model = model
        self.batches: list[int] = []

    def run(self, inputs: Mapping[str, Array]) -> Tensors:
        for spec in self.signature.inputs:
            array = inputs.get(spec.name)
            if array is None or len(inputs) != len(self.signature.inputs):
                raise InputError(f"Input {spec.name!r}: must be given, got {sorted(inputs)}.")
            fixed = [n is None or n == m for n, m in zip(spec.shape, array.shape, strict=True)]
            if array.dtype != spec.numpy_dtype or not all(fixed):
                raise InputError(f"Input {spec.name!r}: got {array.dtype} {array.shape}.")
        arrays = [inputs[spec.name] for spec in self.signature.inputs]
        self.batches.append(len(arrays[0]))
        outputs = self.model(*arrays)
        return {s.name: a for s, a in zip(self.signature.outputs, outputs, strict=True)}

    def close(self) -> None:
        raise AssertionError("a pipeline does not own its sessions")


def spec(
    name: str, *dims: int | None, dtype: str = "float32", batch: int | None = None
) -> TensorSpec:
    return TensorSpec(name, dtype, (batch, *dims))


def model(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    function: Callable[..., Sequence[Array]],
) -> NumpySession:
    return NumpySession(Signature(tuple(inputs), tuple(outputs)), function)


def logits(name: str = "logits", scale: float = 1.0, input_name: str = "x") -> NumpySession:
    """Two features in, two logits out: the features times *scale*."""
    return model([spec(input_name, 2)], [spec(name, 2)], lambda x: [x * np.float32(scale)])


def probabilities(name: str = "probabilities", input_name: str = "X") -> NumpySession:
    """Two features in; a label and two probabilities, 0.25 and 0.75, out."""
    outputs = [spec("label", dtype="int64"), spec(name, 2)]
    rows = np.array([[0.25, 0.75]], np.float32)
    return model(
        [spec(input_name, 2)],
        outputs,
        lambda x: [np.ones(len(x), np.int64), np.repeat(rows, len(x), axis=0)],
    )


def sample(rows: int = 3, **arrays: Array) -> Rows:
    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    return Rows(arrays or {"x": x}, None, rows)


class World:
    """A policy whose models are numpy sessions."""

    def __init__(self, folder: Path, sessions: Mapping[str, NumpySession], workflows: str) -> None:
        self.folder = folder
        self.sessions = sessions
        self.models: dict[str, dict[str, Any]] = {n: {"source": f"{n}.onnx"} for n in sessions}
        self.workflows = yaml.safe_load(workflows)

    def write(self, name: str, code: str) -> World:
        (self.folder / name).write_text(code)
        return self

    def policy_file(self) -> PolicyFile:
        first = next(iter(self.workflows))
        document = {
            "apiVersion": "scanflow/v1",
            "name": "world",
            "models": self.models or {"unused": {"source": "unused.onnx"}},
            "workflows": self.workflows,
            "targets": [{"run": first}],
            "objective": {"minimize": "latency_p95_ms"},
        }
        policy = schema.Policy.model_validate(document)
        return PolicyFile(policy, self.folder / "p.yaml", self.folder, "", "0" * 64)

    def build(
        self,
        *fillers: str,
        run: str | None = None,
        rows: Rows | None = None,
        kinds: Mapping[str, OutputKind] | None = None,
        signatures: Mapping[str, Signature] | None = None,
    ) -> Pipeline:
        policy_file = self.policy_file()
        alternative = graph.alternative(policy_file.policy, run or next(iter(self.workflows)))
        variants = tuple(Variant(name, "onnxruntime", "fp32") for name in fillers)
        return build(
            policy_file,
            alternative,
            Candidate(alternative.name, variants),
            [self.sessions[name] for name in fillers],
            signatures=signatures or {n: s.signature for n, s in self.sessions.items()},
            sample=rows,
            kinds=kinds,
        )
