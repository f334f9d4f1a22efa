"""Which output classifies, and what its numbers are: logits, probabilities, scores or labels.

The kind of a model's output is, first known first taken: the policy's ``kind:``; what the caller
of `pipeline.build` knows from a measurement; what the output looks like on validation rows; and,
with none of these, logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.runtime.tensors import Array, OutputKind, TensorSpec

SUM_TOLERANCE = 1e-3  # of a row of probabilities; fp16 and int8 models miss 1 by this much
_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})


def classification_output(specs: Sequence[TensorSpec]) -> str | None:
    """Return the name of the output that classifies, None if the specs don't say.

    It is the only output; of several, the float one of shape (batch, classes); without any such,
    the one of integer or text labels, shape (batch,).
    """
    if len(specs) == 1:
        return specs[0].name
    scores = [spec.name for spec in specs if spec.dtype in _FLOATS and len(spec.shape) == 2]
    labels = [spec.name for spec in specs if _is_label(spec.dtype) and len(spec.shape) == 1]
    found = scores or labels
    return found[0] if len(found) == 1 else None


def model_output(name: str, model: schema.Model, specs: Sequence[TensorSpec]) -> str | None:
    """Return the name of the classification output of the model *name*, None if ambiguous.

    Raises:
        WorkflowError: The policy's ``output:`` is none of the model's outputs, or its ``labels:``
            are not one a class.
    """
    names = [spec.name for spec in specs]
    if model.output is not None and model.output not in names:
        raise WorkflowError(
            f"models.{name}.output: must be one of the model's outputs {names}, "
            f"got {model.output!r}. Name one of these."
        )
    output = model.output or classification_output(specs)
    if output is not None and model.labels is not None:
        _one_label_a_class(name, model.labels, specs[names.index(output)])
    return output


def _one_label_a_class(name: str, labels: Sequence[str], spec: TensorSpec) -> None:
    """Refuse labels that would name another class than the model meant, or none."""
    classes = spec.shape[1] if len(spec.shape) == 2 else None
    if classes is not None and classes > 1 and len(labels) != classes:
        raise WorkflowError(
            f"models.{name}.labels: must be the names of the {classes} classes of output "
            f"{spec.name!r}, got {len(labels)}. Name each class, in the output's order."
        )


def ambiguous(where: str, specs: Sequence[TensorSpec]) -> WorkflowError:
    """Return the error of a place that needs the classification output and can't tell it."""
    shapes = {spec.name: f"{spec.dtype}{list(spec.shape)}" for spec in specs}
    return WorkflowError(
        f"{where}: exactly one output must be float of shape (batch, classes), got {shapes}. "
        f"Name the one that classifies with `output:` on the model."
    )


def output_kind(model: schema.Model | None, output: Array) -> OutputKind:
    """Return what *output*, a classification output on some rows, holds.

    Float rows of two or more classes are probabilities where they are >= 0 and sum to 1, else
    logits; integers and texts, shape (rows,), are labels; a regression's output and anything
    else is ``other``.

    Args:
        model: Its ``kind:`` prevails; None for the output of a Python step or a combination.
    """
    if model is not None and model.kind is not None:
        return model.kind
    if model is not None and model.task in ("regression", "other"):
        return "other"
    if output.dtype.kind in "iuUOb":
        return "label" if output.ndim == 1 else "other"
    if output.ndim != 2 or output.shape[1] < 2:
        return "other"
    rows = output.astype(np.float64)
    sums_to_one = np.abs(rows.sum(axis=1) - 1.0) <= SUM_TOLERANCE
    return "probabilities" if bool((rows >= 0).all() and sums_to_one.all()) else "logits"


def assumed_kind(model: schema.Model | None, spec: TensorSpec) -> OutputKind:
    """Return the kind of an output of which no row was seen: logits, if it can be."""
    dims = tuple(2 if size is None else size for size in spec.shape[1:])
    zeros = np.zeros((1, *dims), dtype=spec.numpy_dtype)  # a row of zeros is no distribution
    return output_kind(model, zeros)


def common_kind(where: str, kinds: Mapping[str, OutputKind | None]) -> OutputKind | None:
    """Return the kind under which differing outputs are published together.

    The kind they share, or probabilities where logits and probabilities are mixed. Unknown ones
    (None) don't count: outputs are converted only when they are known to be mixed.

    Args:
        kinds: By the name of the model or branch.

    Raises:
        WorkflowError: Kinds are mixed that can't be converted.
    """
    known = {kind for kind in kinds.values() if kind is not None}
    if len(known) <= 1:
        return next(iter(known), None)
    if known == {"logits", "probabilities"}:
        return "probabilities"
    raise WorkflowError(
        f"{where}: outputs used together must be of one kind, or logits and probabilities, got "
        f"{dict(kinds)}. Set `kind:` on the models, or keep them apart."
    )


def softmax(logits: Array) -> Array:
    """Return the probabilities of *logits*, shape (rows, classes), in their dtype."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]


def _is_label(dtype: str) -> bool:
    return dtype in ("str", "bool") or dtype.startswith(("int", "uint"))
