"""Branches side by side, and what becomes of their outputs.

Branches run one after the other: ONNX Runtime and OpenVINO spread a call over their own threads,
and a pool of ours would compete with them for the same cores. Measured on the contract's
committee, two busy cores, with 1 and 2 threads a session: in turn 0.25 and 0.34 ms for one row,
on a pool 0.33 and 0.41; for 32 rows 7.0 and 4.3 ms, on a pool 7.2 and 4.6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.runtime.tensors import Array, OutputKind, Tensors, TensorSpec
from scanflow_serve.runtime.workflow.functions import Function
from scanflow_serve.runtime.workflow.graph import Fork
from scanflow_serve.runtime.workflow.slots import Step

Combiner = Callable[[Sequence[Array]], Array]


def merged(fork: Fork, branches: Sequence[Sequence[TensorSpec]]) -> tuple[TensorSpec, ...]:
    """Return the outputs of all branches.

    Raises:
        WorkflowError: Two branches have an output of the same name.
    """
    specs = [spec for branch in branches for spec in branch]
    names = [spec.name for spec in specs]
    if clash := sorted({name for name in names if names.count(name) > 1}):
        raise WorkflowError(
            f"{fork.path}.parallel: without `combine`, branches must have outputs of different "
            f"names, got {clash} more than once. Add `combine: mean`, or rename in a `python:` "
            f"step."
        )
    return tuple(specs)


def merge_step(branches: Sequence[Step]) -> Step:
    """Return the step whose outputs are those of all *branches*."""

    def step(tensors: Tensors) -> Tensors:
        outputs: Tensors = {}
        for branch in branches:
            outputs |= branch(tensors)
        return outputs

    return step


def combine_step(branches: Sequence[tuple[Step, str]], name: str, combine: Combiner) -> Step:
    """Return the step whose only output, *name*, combines one output of each branch."""

    def step(tensors: Tensors) -> Tensors:
        return {name: combine([branch(tensors)[output] for branch, output in branches])}

    return step


def check_combinable(fork: Fork, outputs: Sequence[TensorSpec], kind: OutputKind) -> None:
    """Hold the branches' classification *outputs* to what ``fork.combine`` can combine.

    Raises:
        WorkflowError: They are labels, or differ in classes, or have none where votes count.
    """
    shapes = [spec.shape for spec in outputs]
    text = ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in outputs)
    where = f"{fork.path}.combine"
    if kind == "label" or any(len(shape) != 2 for shape in shapes if shape):
        raise WorkflowError(
            f"{where}: {fork.combine} takes float outputs of shape (batch, classes), got {text}. "
            f"Name such an output with the model's `output:`, or combine with module:function."
        )
    classes = {shape[1] for shape in shapes if shape} - {None}
    if fork.combine != "concat" and len(classes) > 1:
        raise WorkflowError(
            f"{where}: {fork.combine} takes outputs with the same classes, got {text}. "
            f"Name those that correspond with `output:`, or use `combine: concat`."
        )


def combined_kind(combine: str, kind: OutputKind) -> OutputKind:
    """Return what a combination of outputs of one *kind* holds.

    Votes are shares of the branches, so probabilities. A median or maximum of probabilities does
    not sum to 1: a score. Features put side by side are none of these.
    """
    if combine == "concat":
        return "other"
    if combine == "vote":
        return "probabilities"
    return "score" if kind == "probabilities" and combine != "mean" else kind


def mean(outputs: Sequence[Array]) -> Array:
    """Return the mean over the branches, shape (rows, classes)."""
    return np.asarray(np.mean(outputs, axis=0))


def median(outputs: Sequence[Array]) -> Array:
    """Return the median over the branches, shape (rows, classes)."""
    return np.asarray(np.median(outputs, axis=0))


def maximum(outputs: Sequence[Array]) -> Array:
    """Return the highest value of any branch, shape (rows, classes)."""
    return np.asarray(np.max(outputs, axis=0))


def vote(outputs: Sequence[Array]) -> Array:
    """Return each class's share of the branches that put it first, shape (rows, classes).

    In a tie the classes share the highest value, and the first of them wins.
    """
    votes = np.zeros_like(outputs[0])
    rows = np.arange(len(votes))
    for output in outputs:
        votes[rows, output.argmax(axis=1)] += 1
    return votes / votes.dtype.type(len(outputs))  # type: ignore[no-any-return]


def concat(outputs: Sequence[Array]) -> Array:
    """Return the branches' columns side by side, shape (rows, sum of classes)."""
    return np.concatenate(outputs, axis=1)


COMBINERS: dict[str, Combiner] = {
    "mean": mean,
    "median": median,
    "max": maximum,
    "vote": vote,
    "concat": concat,
}


def function_combiner(function: Function) -> Combiner:
    """Return the combination that a user's *function* makes of one array a branch."""

    def combine(outputs: Sequence[Array]) -> Array:
        result = function(outputs)
        if not isinstance(result, np.ndarray) or result.shape[:1] != outputs[0].shape[:1]:
            got = f"shape {list(result.shape)}" if isinstance(result, np.ndarray) else type(result)
            raise WorkflowError(
                f"{function.where}: {function.spec} must return an array of "
                f"{len(outputs[0])} rows, as many as each branch gave, got {got}. Keep the first "
                f"axis."
            )
        return result

    return combine
