"""One public face for pipelines of different workflows, so that any of them may answer a request.

As the models of a slot do: a single input takes the only input, several go by name; the
classification outputs correspond; logits become probabilities where the face says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.runtime.tensors import OutputKind, Signature, Tensors, TensorSpec
from scanflow_serve.runtime.workflow.assembly import Flow
from scanflow_serve.runtime.workflow.pipeline import Pipeline
from scanflow_serve.runtime.workflow.slots import Step, compatible, with_softmax


@dataclass(frozen=True, slots=True)
class Face:
    """What clients see of a name, whatever answers.

    Attributes:
        output: Public name of the classification output; None if it can't be told.
        kind: What that output holds.
    """

    signature: Signature
    output: str | None
    kind: OutputKind

    @classmethod
    def of(cls, pipeline: Pipeline, kind: OutputKind | None = None) -> Face:
        """Return the face of *pipeline* itself; with another *kind* where others need it."""
        return cls(pipeline.signature, pipeline.output, kind or pipeline.kind)


def bridged(pipeline: Pipeline, face: Face) -> Pipeline:
    """Return *pipeline* behind *face*; itself where it has that face already.

    Raises:
        WorkflowError: They don't correspond; says where.
    """
    if Face.of(pipeline) == face:
        return pipeline
    own, shown = pipeline.signature, face.signature
    feeds = _paired(pipeline, "inputs", shown.inputs, own.inputs)
    answers = _paired(
        pipeline,
        "outputs",
        shown.outputs,
        own.outputs,
        known=(face.output, pipeline.output) if face.output and pipeline.output else None,
    )
    step = _fed(pipeline.run, feeds)
    if pipeline.output is not None and face.kind != pipeline.kind:
        if (pipeline.kind, face.kind) != ("logits", "probabilities"):
            raise _differs(pipeline, f"a classification output of {face.kind}", pipeline.kind)
        step = with_softmax(step, pipeline.output)
    step = _named(step, answers)
    after = Flow(shown.outputs, None, face.output, face.kind)
    return Pipeline(pipeline.candidate, shown, step, after)


Pair = tuple[str, str, np.dtype[np.generic]]  # public name, own name, dtype to give


def _paired(
    pipeline: Pipeline,
    what: str,
    shown: Sequence[TensorSpec],
    own: Sequence[TensorSpec],
    known: tuple[str, str] | None = None,
) -> list[Pair]:
    """Return which tensors correspond: *known* ones, single ones, and those of one name."""
    by_name = {spec.name: spec for spec in own}
    pairs = []
    for spec in shown:
        name = known[1] if known is not None and spec.name == known[0] else spec.name
        mine = own[0] if len(shown) == len(own) == 1 else by_name.get(name)
        given, taken = (spec, mine) if what == "inputs" else (mine, spec)
        if given is None or taken is None or mine is None or not _fits(given, taken):
            raise _differs(pipeline, f"{what} {_texts(shown)}", _texts(own))
        pairs.append((spec.name, mine.name, taken.numpy_dtype))
    if what == "inputs" and len(pairs) != len(own):
        raise _differs(pipeline, f"{what} {_texts(shown)}", _texts(own))
    return pairs


def _fits(given: TensorSpec, taken: TensorSpec) -> bool:
    castable = np.can_cast(given.numpy_dtype, taken.numpy_dtype, "same_kind")
    return castable and compatible(given.shape, taken.shape)


def _fed(run: Step, feeds: Sequence[Pair]) -> Step:
    def step(tensors: Tensors) -> Tensors:
        return run({own: tensors[name].astype(to, copy=False) for name, own, to in feeds})

    return step


def _named(run: Step, answers: Sequence[Pair]) -> Step:
    def step(tensors: Tensors) -> Tensors:
        outputs = run(tensors)
        return {name: outputs[own].astype(to, copy=False) for name, own, to in answers}

    return step


def _texts(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} {spec.dtype}{list(spec.shape)}" for spec in specs)


def _differs(pipeline: Pipeline, wanted: str, got: object) -> WorkflowError:
    return WorkflowError(
        f"{pipeline.candidate.id}: to answer in place of the chosen workflow it must have "
        f"{wanted}, got {got}. Make the alternatives of `any` alike, or it stands by for nothing."
    )
