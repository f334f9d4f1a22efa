"""What a slot shows whichever of its models fills it, and the step that runs the one that does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.tensors import Signature, Tensors, TensorSpec
from scanflow_serve.runtime.workflow import kinds
from scanflow_serve.runtime.workflow.graph import Slot
from scanflow_serve.runtime.workflow.inputs import shape_text

Step: TypeAlias = Callable[[Tensors], Tensors]


@dataclass(frozen=True, slots=True)
class Face:
    """The public side of a slot, paired with the model that fills it.

    Attributes:
        inputs: Public, named as the slot's first model names them, batch dimension open.
        own_inputs: The filling model's, in the same order.
        outputs: Public, batch dimension open.
        own_outputs: The filling model's names of them, in the same order.
        output: Public name of the classification output; None if a single model does not say.
    """

    inputs: tuple[TensorSpec, ...]
    own_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    own_outputs: tuple[str, ...]
    output: str | None


def face(
    slot: Slot, filler: str, models: Mapping[str, schema.Model], signatures: Mapping[str, Signature]
) -> Face:
    """Return what *slot* shows when the model *filler* fills it.

    A single model shows all its outputs. A slot of several shows the classification output under
    the first model's name, and of the others those that every model has under the same name and
    dtype. Models whose signature is not in *signatures* (not convertible on this host) don't
    count, but the first and the filler must be there.

    Raises:
        WorkflowError: Inputs or outputs of the models don't correspond; names both models.
    """
    for needed in (slot.models[0], filler):
        if needed not in signatures:
            raise WorkflowError(
                f"{slot.path}: the signature of {needed!r} must be known, got only "
                f"{sorted(signatures)}. Make its source readable, or take it out of the slot."
            )
    first = slot.models[0]
    if len(slot.models) == 1:
        own = signatures[first]
        output = kinds.model_output(first, models[first], own.outputs)
        names = tuple(spec.name for spec in own.outputs)
        return Face(_open(own.inputs), own.inputs, _open(own.outputs), names, output)
    present = [name for name in slot.models if name in signatures]
    inputs = {
        name: _paired_inputs(slot.path, first, name, signatures[first], signatures[name])
        for name in present
    }
    outputs = {name: _output(slot.path, name, models[name], signatures[name]) for name in present}
    for name in present:
        _same_classes(slot.path, first, name, outputs[first], outputs[name])
    shared = _shared(present, outputs, signatures)
    public = tuple(
        spec for spec in signatures[first].outputs if spec == outputs[first] or spec.name in shared
    )
    own_outputs = tuple(
        outputs[filler].name if spec == outputs[first] else spec.name for spec in public
    )
    return Face(
        _open(signatures[first].inputs),
        inputs[filler],
        _open(public),
        own_outputs,
        outputs[first].name,
    )


def tensors_for(
    where: str, wanted: Sequence[str], available: Collection[str], who: str
) -> tuple[str, ...]:
    """Return which of the *available* tensors feed the inputs *wanted*, in their order.

    By name; a single input takes the only tensor, whatever its name.

    Raises:
        WorkflowError: There is no such tensor; names both sides.
    """
    if all(name in available for name in wanted):
        return tuple(wanted)
    if len(wanted) == 1 and len(available) == 1:
        return tuple(available)
    raise WorkflowError(
        f"{where}: the inputs {list(wanted)} of {who} must be among the tensors that reach the "
        f"step, got {list(available)}. Rename the inputs, or return a dict with these names."
    )


def slot_step(slot: Slot, session: Session, shown: Face, reaching: Sequence[TensorSpec]) -> Step:
    """Return the step that runs *session* on the tensors *reaching* it, under public names.

    Without anything to rename, cast or chunk this is the session's own `run`.

    Raises:
        WorkflowError: The tensors that reach the slot don't fit the model.
    """
    who = f"the slot of {', '.join(slot.models)}"
    specs = {spec.name: spec for spec in reaching}
    sources = tensors_for(slot.path, [spec.name for spec in shown.inputs], specs, who)
    feeds = [
        (own.name, source, _cast(slot.path, specs[source], own))
        for own, source in zip(shown.own_inputs, sources, strict=True)
    ]
    run: Step = session.run
    if (size := session.signature.fixed_batch) is not None:
        run = _chunked(run, size)
    if len(specs) > len(feeds) or any(own != source or cast for own, source, cast in feeds):
        run = _fed(run, feeds)
    names = [spec.name for spec in shown.outputs]
    if list(shown.own_outputs) != names or len(session.signature.outputs) > len(names):
        run = _named(run, list(zip(names, shown.own_outputs, strict=True)))
    return run


def with_softmax(run: Step, output: str) -> Step:
    """Return *run* with its *output*, logits, turned into probabilities."""

    def step(tensors: Tensors) -> Tensors:
        outputs = run(tensors)
        return {**outputs, output: kinds.softmax(outputs[output])}

    return step


def _fed(run: Step, feeds: Sequence[tuple[str, str, np.dtype[np.generic] | None]]) -> Step:
    def step(tensors: Tensors) -> Tensors:
        return run(
            {
                own: tensors[source] if cast is None else tensors[source].astype(cast, copy=False)
                for own, source, cast in feeds
            }
        )

    return step


def _named(run: Step, names: Sequence[tuple[str, str]]) -> Step:
    def step(tensors: Tensors) -> Tensors:
        outputs = run(tensors)
        return {public: outputs[own] for public, own in names}

    return step


def _chunked(run: Step, size: int) -> Step:
    """Return *run*, which takes exactly *size* rows, for any number of rows.

    The last chunk is padded with copies of its last row, which surely is in the model's domain.
    """

    def chunk(tensors: Tensors, start: int) -> Tensors:
        return {
            name: np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            if len(part := array[start : start + size]) < size
            else part
            for name, array in tensors.items()
        }

    def step(tensors: Tensors) -> Tensors:
        rows = len(next(iter(tensors.values())))
        if rows == size:
            return run(tensors)
        parts = [run(chunk(tensors, start)) for start in range(0, rows, size)]
        return {name: np.concatenate([part[name] for part in parts])[:rows] for name in parts[0]}

    return step


def _open(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return *specs* with the batch dimension open: a fixed one is met by chunking."""
    return tuple(
        replace(spec, shape=(None, *spec.shape[1:]) if spec.shape else ()) for spec in specs
    )


def _paired_inputs(
    where: str, first: str, other: str, public: Signature, own: Signature
) -> tuple[TensorSpec, ...]:
    wanted = [spec.name for spec in public.inputs]
    by_name = {spec.name: spec for spec in own.inputs}
    paired: tuple[TensorSpec, ...]
    if len(wanted) == len(own.inputs) == 1:
        paired = tuple(own.inputs)
    elif set(wanted) == set(by_name):
        paired = tuple(by_name[name] for name in wanted)
    else:
        raise WorkflowError(
            f"{where}: models of one slot must have the same input names, or one input each, got "
            f"{wanted} of {first!r} and {sorted(by_name)} of {other!r}. Export them alike, or use "
            f"slots of their own."
        )
    for spec, mine in zip(public.inputs, paired, strict=True):
        _agree(where, first, other, spec, mine)
    return paired


def _agree(where: str, first: str, other: str, spec: TensorSpec, mine: TensorSpec) -> None:
    castable = np.can_cast(spec.numpy_dtype, mine.numpy_dtype, "same_kind")
    if not castable or not compatible(spec.shape, mine.shape):
        raise WorkflowError(
            f"{where}: models of one slot must take the same inputs, got {_shown(spec)} of "
            f"{first!r} and {_shown(mine)} of {other!r}. Put a `python:` step before one of them, "
            f"in a workflow of its own."
        )


def _output(where: str, name: str, model: schema.Model, signature: Signature) -> TensorSpec:
    output = kinds.model_output(name, model, signature.outputs)
    if output is None:
        raise kinds.ambiguous(f"{where}, models.{name}", signature.outputs)
    return next(spec for spec in signature.outputs if spec.name == output)


def _same_classes(where: str, first: str, other: str, spec: TensorSpec, mine: TensorSpec) -> None:
    if not compatible(spec.shape, mine.shape):
        raise WorkflowError(
            f"{where}: models of one slot must have the same classes, got {_shown(spec)} of "
            f"{first!r} and {_shown(mine)} of {other!r}. Name the outputs that correspond with "
            f"`output:`, or use slots of their own."
        )


def _shared(
    present: Sequence[str], outputs: Mapping[str, TensorSpec], signatures: Mapping[str, Signature]
) -> set[str]:
    """Return the outputs, beside the classification one, that all models have alike."""
    beside = (
        {(s.name, s.dtype, len(s.shape)) for s in signatures[name].outputs if s != outputs[name]}
        for name in present
    )
    return {name for name, _, _ in set.intersection(*beside)}


def _cast(where: str, reaching: TensorSpec, own: TensorSpec) -> np.dtype[np.generic] | None:
    if not np.can_cast(reaching.numpy_dtype, own.numpy_dtype, "same_kind") or not compatible(
        reaching.shape, own.shape
    ):
        raise WorkflowError(
            f"{where}: the tensor that reaches the slot must fit its input {_shown(own)}, got "
            f"{_shown(reaching)}. Convert it in the step before."
        )
    return None if reaching.dtype == own.dtype else own.numpy_dtype


def compatible(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Return whether two shapes can be the same but for the batch; () is of unknown rank."""
    if not one or not other:
        return True
    return len(one) == len(other) and all(
        a is None or b is None or a == b for a, b in zip(one[1:], other[1:], strict=True)
    )


def _shown(spec: TensorSpec) -> str:
    return f"{spec.name!r} {spec.dtype}{shape_text(spec.shape)}"
