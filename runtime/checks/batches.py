"""From what the tap holds to what checks look at: rows side by side, answers in their own words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from scanflow_serve.runtime.checks.rows import Answers, Observed
from scanflow_serve.runtime.checks.tap import Tapped
from scanflow_serve.runtime.tensors import Array, OutputKind, Tensors


def answers(outputs: Tensors, output: str | None, kind: OutputKind) -> Answers:
    """Return *outputs* with the probabilities and classes that their classification output gives.

    Args:
        output: Its name; None if there is none.
        kind: What it holds.
    """
    array = None if output is None else outputs.get(output)
    if array is None:
        return Answers(outputs)
    if kind in ("logits", "probabilities") and array.ndim == 2 and array.shape[1] > 1:
        probabilities = softmax(array) if kind == "logits" else array
        return Answers(outputs, probabilities, array.argmax(axis=1))
    if kind == "label" and array.dtype.kind in "iu":
        return Answers(outputs, None, array.reshape(len(array), -1)[:, 0].astype(np.int64))
    return Answers(outputs)


def softmax(logits: Array) -> Array:
    """Return the probabilities of *logits*, shape (rows, classes).

    >>> softmax(np.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Array = odds / odds.sum(axis=1, keepdims=True)
    return shares


def batches(tapped: Iterable[Tapped]) -> list[Observed]:
    """Return the rows of *tapped* in as few batches as there are variants, sessions and shapes.

    Rows of one batch keep their order; where variants took turns, their rows are told apart.
    """
    groups: dict[tuple[object, ...], list[Tapped]] = {}
    for each in tapped:
        shapes = tuple(array.shape[1:] for array in each.inputs.values())
        key = (each.variant, each.session, each.output, each.kind, shapes)
        groups.setdefault(key, []).append(each)
    return [_batch(group) for group in groups.values()]


def _batch(group: Sequence[Tapped]) -> Observed:
    first = group[0]
    outputs = _joined([each.outputs for each in group])
    counts = [len(each.ids) for each in group]
    return Observed(
        ids=[identity for each in group for identity in each.ids],
        inputs=_joined([each.inputs for each in group]),
        answers=answers(outputs, first.output, first.kind),
        variant=first.variant,
        at=np.repeat([each.at for each in group], counts),
        session=first.session,
    )


def _joined(parts: Sequence[Mapping[str, Array]]) -> Tensors:
    if len(parts) == 1:
        return dict(parts[0])
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
