"""A run's nodes strung together into steps, what flows between them learned on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scanflow_serve.policies.errors import ScanflowError, WorkflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.tensors import Array, OutputKind, Signature, Tensors, TensorSpec
from scanflow_serve.runtime.validation import Rows
from scanflow_serve.runtime.workflow import combining, kinds
from scanflow_serve.runtime.workflow.functions import (
    as_tensors,
    combine_function,
    hold,
    step_function,
)
from scanflow_serve.runtime.workflow.graph import Call, Fork, Node, Slot
from scanflow_serve.runtime.workflow.inputs import arrange, fit
from scanflow_serve.runtime.workflow.slots import Step, face, slot_step, tensors_for, with_softmax

# Rows that a workflow is built with: one would hide a step that sums over the batch.
SAMPLE_ROWS = 4


@dataclass(frozen=True, slots=True)
class Flow:
    """The tensors between two steps.

    Attributes:
        sample: Their values on the first validation rows; None without validation data.
        output: The one that classifies; None if it can't be told.
        kind: What that one holds.
    """

    specs: tuple[TensorSpec, ...]
    sample: Tensors | None
    output: str | None = None
    kind: OutputKind = "other"


@dataclass(frozen=True, slots=True)
class Assembly:
    """What steps are made from.

    Attributes:
        sessions: Of the slots, in execution order, each with the model that it runs; used up.
        signatures: By model name.
        kinds: Of the models' classification outputs, as far as known.
    """

    policy_file: PolicyFile
    sessions: Iterator[tuple[str, Session]]
    signatures: Mapping[str, Signature]
    kinds: Mapping[str, OutputKind]

    def start(self, nodes: Sequence[Node], rows: Rows | None, fillers: Sequence[str]) -> Flow:
        """Return the run's public inputs: those of its first slot or Python step."""
        node = nodes[0]
        while isinstance(node, Fork):
            node = node.branches[0][0]
        sample = rows and rows.head(SAMPLE_ROWS)
        if isinstance(node, Slot):
            models = self.policy_file.policy.models
            specs = face(node, fillers[0], models, self.signatures).inputs
            if sample is None:
                return Flow(specs, None)
            arrays = arrange([spec.name for spec in specs], sample)
            return Flow(specs, {spec.name: fit(spec, arrays[spec.name]) for spec in specs})
        names = step_function(node, self.policy_file).tensors
        if sample is None:
            raise _needs_validation(node.path)
        arrays = {n: _as_objects(array) for n, array in arrange(names, sample).items()}
        return Flow(_specs(arrays), arrays)

    def chain(self, nodes: Sequence[Node], flow: Flow) -> tuple[Step, Flow]:
        """Return *nodes* as one step from *flow* on, and what flows out of it."""
        steps: list[Step] = []
        for node in nodes:
            step, flow = self._step(node, flow)
            steps.append(step)
        return _in_turn(steps), flow

    def _step(self, node: Node, flow: Flow) -> tuple[Step, Flow]:
        match node:
            case Slot():
                return self._slot(node, flow)
            case Call():
                return self._call(node, flow)
            case Fork(combine=None):
                return self._merge(node, flow)
            case _:
                return self._combine(node, node.combine or "", flow)

    def _slot(self, slot: Slot, flow: Flow) -> tuple[Step, Flow]:
        filler, session = next(self.sessions)
        models = self.policy_file.policy.models
        shown = face(slot, filler, models, {**self.signatures, filler: session.signature})
        step = slot_step(slot, session, shown, flow.specs)
        outputs = None if flow.sample is None else _tried(slot.path, step, flow.sample)
        specs = shown.outputs if outputs is None else _learned(shown.outputs, outputs)
        if shown.output is None:
            return step, Flow(specs, outputs)
        spec = next(spec for spec in specs if spec.name == shown.output)
        own = self._kind(filler, spec, None if outputs is None else outputs[spec.name])
        known = {name: self._known_kind(name) for name in slot.models} | {filler: own}
        kind = kinds.common_kind(slot.path, known) or own
        if kind != own:
            step = with_softmax(step, spec.name)
            outputs = outputs and {**outputs, spec.name: kinds.softmax(outputs[spec.name])}
        return step, Flow(specs, outputs, spec.name, kind)

    def _known_kind(self, model: str) -> OutputKind | None:
        return self.policy_file.policy.models[model].kind or self.kinds.get(model)

    def _kind(self, model: str, spec: TensorSpec, output: Array | None) -> OutputKind:
        if (known := self._known_kind(model)) is not None:
            return known
        declared = self.policy_file.policy.models[model]
        if output is None:
            return kinds.assumed_kind(declared, spec)
        return kinds.output_kind(declared, output)

    def _call(self, call: Call, flow: Flow) -> tuple[Step, Flow]:
        function = step_function(call, self.policy_file)
        if flow.sample is None:
            raise _needs_validation(call.path)
        names = [spec.name for spec in flow.specs]
        sources = tensors_for(call.path, function.tensors, names, call.function)

        def learn(tensors: Tensors) -> Tensors:
            arrays = [tensors[source] for source in sources]
            return as_tensors(function, function(arrays), len(arrays[0]))

        sample = {name: _as_objects(array) for name, array in learn(flow.sample).items()}
        specs = _specs(sample)

        def step(tensors: Tensors) -> Tensors:
            return hold(function, learn(tensors), specs)

        return step, _unmodelled(specs, sample)

    def _branches(self, fork: Fork, flow: Flow) -> list[tuple[Step, Flow]]:
        return [self.chain(branch, flow) for branch in fork.branches]

    def _merge(self, fork: Fork, flow: Flow) -> tuple[Step, Flow]:
        branches = self._branches(fork, flow)
        specs = combining.merged(fork, [after.specs for _, after in branches])
        sample: Tensors | None = None
        if flow.sample is not None:
            sample = {n: a for _, after in branches for n, a in (after.sample or {}).items()}
        step = combining.merge_step([step for step, _ in branches])
        output = kinds.classification_output(specs)
        kind: OutputKind = next((a.kind for _, a in branches if a.output == output), "other")
        return step, Flow(specs, sample, output, kind)

    def _combine(self, fork: Fork, combine: str, flow: Flow) -> tuple[Step, Flow]:
        branches, outputs, kind = self._alike(fork, self._branches(fork, flow))
        sample = None
        if flow.sample is not None:
            sample = [after.sample[after.output] for _, after in branches]  # type: ignore[index]
        if ":" in combine:
            where = f"{fork.path}.combine"
            if sample is None:
                raise _needs_validation(where)
            function = combine_function(where, combine, len(branches), self.policy_file)
            combiner = combining.function_combiner(function)
        else:
            combining.check_combinable(fork, outputs, kind)
            combiner = combining.COMBINERS[combine]
        name = outputs[0].name
        chosen = [(step, spec.name) for (step, _), spec in zip(branches, outputs, strict=True)]
        step = combining.combine_step(chosen, name, combiner)
        if sample is None:
            width = outputs[0].shape[1:] if combine != "concat" else (None,)
            spec = replace(outputs[0], shape=(None, *width))
            return step, Flow((spec,), None, name, combining.combined_kind(combine, kind))
        combined = {name: combiner(sample)}
        after = _unmodelled(_specs(combined), combined)
        if ":" in combine:
            return step, after
        return step, replace(after, kind=combining.combined_kind(combine, kind))

    def _alike(
        self, fork: Fork, branches: list[tuple[Step, Flow]]
    ) -> tuple[list[tuple[Step, Flow]], list[TensorSpec], OutputKind]:
        """Return the branches with outputs of one kind, these outputs, and the kind."""
        outputs = []
        for i, (_, after) in enumerate(branches):
            if after.output is None:
                raise kinds.ambiguous(f"{fork.path}.parallel[{i}]", after.specs)
            outputs.append(next(spec for spec in after.specs if spec.name == after.output))
        found = {f"parallel[{i}]": after.kind for i, (_, after) in enumerate(branches)}
        common = kinds.common_kind(fork.path, found) or "other"
        alike = [
            _to_probabilities(step, after) if after.kind != common else (step, after)
            for step, after in branches
        ]
        return alike, outputs, common


def _to_probabilities(step: Step, flow: Flow) -> tuple[Step, Flow]:
    name = flow.output or ""
    sample = flow.sample and {**flow.sample, name: kinds.softmax(flow.sample[name])}
    return with_softmax(step, name), replace(flow, sample=sample, kind="probabilities")


def _in_turn(steps: Sequence[Step]) -> Step:
    if len(steps) == 1:
        return steps[0]

    def step(tensors: Tensors) -> Tensors:
        for each in steps:
            tensors = each(tensors)
        return tensors

    return step


def _tried(where: str, step: Step, sample: Tensors) -> Tensors:
    try:
        return step(sample)
    except WorkflowError:
        raise
    except ScanflowError as error:
        raise WorkflowError(
            f"{where}: the model must run on the first rows of `validation`, got: {error} "
            f"Correct the data, or the steps before."
        ) from error


def _unmodelled(specs: tuple[TensorSpec, ...], sample: Tensors) -> Flow:
    """Return what flows out of a function, whose outputs no model of the policy describes."""
    output = kinds.classification_output(specs)
    kind: OutputKind = "other" if output is None else kinds.output_kind(None, sample[output])
    return Flow(specs, sample, output, kind)


def _learned(specs: Sequence[TensorSpec], outputs: Tensors) -> tuple[TensorSpec, ...]:
    """Return *specs*, with the rank where the model does not declare it."""
    return tuple(
        spec if spec.shape else replace(spec, shape=(None,) * outputs[spec.name].ndim)
        for spec in specs
    )


def _specs(tensors: Tensors) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name, "str" if array.dtype.kind == "O" else array.dtype.name, (None, *array.shape[1:])
        )
        for name, array in tensors.items()
    )


def _as_objects(array: Array) -> Array:
    """Return text as numpy objects, the one form that backends and protocols agree on."""
    return array.astype(object) if array.dtype.kind in "US" else np.asarray(array)


def _needs_validation(where: str) -> WorkflowError:
    return WorkflowError(
        f"{where}: a step that calls Python needs validation rows, got none: what goes in and "
        f"comes out is learned from them. Add a `validation:` section to the policy."
    )
