"""Tries a converted file before it may be served: on its backend, against its source.

Native code reads the file for the first time here, so it runs in a child process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanflow_serve.converters.origins.in_child import ChildOrigin
from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.converters.verification import verify
from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import CalibrationError, WorkflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime import validation
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.calibration import rows as generated
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.tensors import Array, Signature, Tensors
from scanflow_serve.runtime.workflow.inputs import arrange, fit
from scanflow_serve.runtime.workflow.kinds import model_output

COMPARED_ROWS = 256  # whose outputs are compared; the metric is taken over all rows with a target
GENERATED_ROWS = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """Figures of one try, as manifests hold them, and the first reason to refuse, if any."""

    figures: Mapping[str, Any]
    refusal: Refusal | None = None


@dataclass(slots=True)
class Trial:
    """What every file of one model is tried on.

    Attributes:
        ask: Returns what the source answers; called once.
        labels: Class names in output order, where they are known.
    """

    name: str
    policy_file: PolicyFile
    signature: Signature
    ask: Callable[[Tensors], Tensors]
    labels: Sequence[str] | None = None
    _inputs: Tensors = field(init=False)
    _target: Array | None = field(init=False, default=None)
    _reference: Tensors | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        policy = self.policy_file.policy
        for data in (policy.validation, policy.calibration):
            loaded = data and validation.load_rows(data, self.policy_file)
            if loaded and (inputs := fitted(self.signature, loaded)) is not None:
                self._inputs, self._target = inputs, loaded.target
                if loaded.target is None:
                    self._inputs = _head(inputs, COMPARED_ROWS)
                return
        self._inputs = generated.generate(self.signature, GENERATED_ROWS)

    def judge(self, artifact: Artifact) -> Verdict:
        """Return how *artifact* answers, on the backend that serves its format.

        Raises:
            ArtifactError: It can't be loaded or run.
        """
        if (fault := _interface_fault(self.signature, artifact.signature)) is not None:
            return Verdict({}, Refusal("verification", fault))
        if self._reference is None:
            self._reference = self.ask(self._inputs)
        outputs = answers(artifact, self._inputs)
        compared = verify(
            _head(self._reference, COMPARED_ROWS),
            _head(outputs, COMPARED_ROWS),
            precision=artifact.precision,
        )
        figures: dict[str, Any] = {
            name: {"error": each.error, "agreement": each.agreement}
            for name, each in compared.figures.items()
        }
        figures["rows"] = min(len(next(iter(self._inputs.values()))), COMPARED_ROWS)
        if compared.refusal is not None:
            return Verdict(figures, compared.refusal)
        return self._accurate(figures, self._reference, outputs)

    def _accurate(self, figures: dict[str, Any], reference: Tensors, outputs: Tensors) -> Verdict:
        truth, found = self._score(reference), self._score(outputs)
        if truth is None or found is None:
            return Verdict(figures)
        drop, allowed = truth - found, self._model.max_accuracy_drop
        figures["accuracy"] = {"source": truth, "converted": found, "drop": drop}
        # A metric is a ratio of counts: the margin only forgives binary fractions.
        if drop <= allowed + 1e-9:
            return Verdict(figures)
        reason = (
            f"accuracy {found:.3f} of the converted file is {drop:.3g} below the source's "
            f"{truth:.3f}, max_accuracy_drop allows {allowed:g}"
        )
        return Verdict(figures, Refusal("verification", reason))

    def _score(self, outputs: Tensors) -> float | None:
        rules = self.policy_file.policy.validation
        if self._target is None or rules is None:
            return None
        try:
            output = model_output(self.name, self._model, self.signature.outputs)
            if output is None:
                return None
            return validation.score(rules.metric, outputs[output], self._target, self.labels)
        except (CalibrationError, WorkflowError):
            return None  # told where the model is measured as it is served

    @property
    def _model(self) -> schema.Model:
        return self.policy_file.policy.models[self.name]


def fitted(signature: Signature, loaded: validation.Rows) -> Tensors | None:
    """Return rows as inputs of *signature*; None if they are those of other inputs."""
    try:
        arrays = arrange([spec.name for spec in signature.inputs], loaded)
        return {spec.name: fit(spec, arrays[spec.name]) for spec in signature.inputs}
    except WorkflowError:
        return None


def answers(artifact: Artifact, inputs: Tensors) -> Tensors:
    """Return what *artifact* answers: ONNX on onnxruntime if it is there, IR on openvino.

    Raises:
        ArtifactError: It can't be loaded or run.
    """
    files = (artifact.path, *artifact.data)
    folder: Path = artifact.path.parent
    where = f"{artifact.model} ({artifact.format} {artifact.precision})"
    saved = Saved(loader=artifact.format, where=where, path=artifact.path, folder=folder)
    return ChildOrigin(saved, files).reference(inputs)


def _head(tensors: Tensors, rows: int) -> Tensors:
    return {name: array[:rows] for name, array in tensors.items()}


def _interface_fault(source: Signature, made: Signature) -> str | None:
    """Return how the converted model's inputs and outputs differ from the source's in name or type.

    Not in shape: converters infer sizes that the source leaves open.
    """
    for side in ("inputs", "outputs"):
        wanted = {spec.name: spec.dtype for spec in getattr(source, side)}
        got = {spec.name: spec.dtype for spec in getattr(made, side)}
        if wanted != got:
            return f"{side} must stay {wanted}, got {got}"
    return None
