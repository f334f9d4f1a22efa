"""A run's steps, resolved: nested workflows in line, slots in execution order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import WorkflowError

MODEL_PREFIX = "model:"  # no name of a policy holds a colon
JOIN = ">"  # nor this
# Step options that would change a result if a serving run did not obey them.
_BATCH_OPTIONS = ("needs", "when", "for_each", "outputs", "retries", "timeout_s")


@dataclass(frozen=True, slots=True)
class Alternative:
    """One way to run a target, its slots still open.

    Attributes:
        name: What `Candidate.run` carries: a workflow, workflows joined by ``>``, or
            ``model:NAME``.
        workflows: In the order in which they feed one another; empty for a single model.
        model: The one model of ``model:NAME``.
    """

    name: str
    workflows: tuple[str, ...]
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """A step that any of some models may fill.

    Attributes:
        path: Where the policy has it, such as ``workflows.C2.steps[0]``.
        models: In the policy's order; the first names the public inputs and outputs.
    """

    path: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A step that calls ``module:function``."""

    path: str
    function: str
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fork:
    """Branches over the same inputs, side by side."""

    path: str
    branches: tuple[tuple[Node, ...], ...]
    combine: str | None


Node: TypeAlias = Slot | Call | Fork


def alternatives(policy: schema.Policy, run: schema.Run) -> tuple[Alternative, ...]:
    """Return the ways to run *run*: several for ``any``, one for a name or a ``sequence``.

    Raises:
        WorkflowError: It names a workflow that the policy does not define.
    """
    if isinstance(run, schema.AnyOf):
        return tuple(alternative(policy, name) for name in run.any)
    name = run if isinstance(run, str) else JOIN.join(run.sequence)
    return (alternative(policy, name),)


def alternative(policy: schema.Policy, run_name: str) -> Alternative:
    """Return the alternative that *run_name*, a `Candidate.run`, stands for.

    Raises:
        WorkflowError: It names a workflow or model that the policy does not define.
    """
    if run_name.startswith(MODEL_PREFIX):
        model = run_name.removeprefix(MODEL_PREFIX)
        _known("models", model, policy.models)
        return model_alternative(model)
    workflows = tuple(run_name.split(JOIN))
    for workflow in workflows:
        _known("workflows", workflow, policy.workflows)
    return Alternative(run_name, workflows)


def model_alternative(name: str) -> Alternative:
    """Return the alternative that is the model *name* alone."""
    return Alternative(f"{MODEL_PREFIX}{name}", (), name)


def slots(policy: schema.Policy, alternative: Alternative) -> tuple[Slot, ...]:
    """Return the slots of *alternative*, in execution order.

    Raises:
        WorkflowError: As `nodes`.
    """
    return tuple(_slots(nodes(policy, alternative)))


def nodes(policy: schema.Policy, alternative: Alternative) -> tuple[Node, ...]:
    """Return the steps of *alternative*, nested workflows in line.

    Raises:
        WorkflowError: A step belongs to batch workflows, a workflow is unknown or runs itself.
    """
    if alternative.model is not None:
        return (Slot(f"models.{alternative.model}", (alternative.model,)),)
    return tuple(
        node for name in alternative.workflows for node in _workflow_nodes(policy, name, ())
    )


def _slots(steps: tuple[Node, ...]) -> Iterator[Slot]:
    for node in steps:
        if isinstance(node, Slot):
            yield node
        elif isinstance(node, Fork):
            for branch in node.branches:
                yield from _slots(branch)


def _workflow_nodes(policy: schema.Policy, name: str, within: tuple[str, ...]) -> tuple[Node, ...]:
    if name in within:
        chain = " > ".join((*within, name))
        raise WorkflowError(
            f"workflows.{name}: a workflow may not run itself, got {chain}. Break the cycle."
        )
    _known("workflows", name, policy.workflows)
    steps = policy.workflows[name].steps
    return tuple(
        node
        for i, step in enumerate(steps)
        for node in _step_nodes(policy, step, f"workflows.{name}.steps[{i}]", (*within, name))
    )


def _step_nodes(
    policy: schema.Policy, step: schema.Step, path: str, within: tuple[str, ...]
) -> tuple[Node, ...]:
    _refuse_batch_options(step, path)
    match step:
        case schema.ModelStep():
            return (Slot(path, step.models),)
        case schema.PythonStep():
            return (Call(path, step.python, step.params),)
        case schema.WorkflowStep():
            return _workflow_nodes(policy, step.workflow, within)
        case schema.ParallelStep():
            branches = tuple(
                _step_nodes(policy, branch, f"{path}.parallel[{i}]", within)
                for i, branch in enumerate(step.parallel)
            )
            return (Fork(path, branches, step.combine),)
    kind = "script" if isinstance(step, schema.ScriptStep) else "checker"
    raise WorkflowError(
        f"{path}: a step inside a request must be one of model, python, workflow and parallel, "
        f"got {kind!r}. Take it out of the target's run, or run the workflow in batch with "
        f"`scanflow-serve workflow run`."
    )


def _refuse_batch_options(step: schema.Step, path: str) -> None:
    for option in _BATCH_OPTIONS:
        if value := getattr(step, option):
            raise WorkflowError(
                f"{path}.{option}: only steps of batch workflows have `{option}`, got {value!r}. "
                f"Remove it, or take the step out of the target's run."
            )


def _known(section: str, name: str, among: Mapping[str, Any]) -> None:
    if name not in among:
        raise WorkflowError(
            f"{section}.{name}: must be defined in the policy, got only {sorted(among)}. "
            f"Define it, or name one of these."
        )
