"""A candidate, ready to answer: its steps compiled once, so that a request only runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.tensors import Array, OutputKind, Signature, Tensors
from scanflow_serve.runtime.validation import Rows
from scanflow_serve.runtime.variants import Candidate
from scanflow_serve.runtime.workflow import kinds as output_kinds
from scanflow_serve.runtime.workflow.assembly import Assembly, Flow
from scanflow_serve.runtime.workflow.graph import Alternative, Slot, nodes, slots
from scanflow_serve.runtime.workflow.inputs import arrange, fit
from scanflow_serve.runtime.workflow.slots import Step


class Pipeline:
    """One candidate's steps over loaded sessions; safe to call from several threads.

    Attributes:
        signature: Public inputs and outputs; the batch dimension is open.
        output: Public name of the classification output; None if there is none, or it can't be
            told which it is.
        kind: What that output holds.
        run: Returns all public outputs for inputs that `inputs.check_inputs` has passed, any
            number of rows. Raises WorkflowError when a Python step fails, BackendError when a
            backend does.
    """

    __slots__ = ("candidate", "kind", "output", "run", "signature")

    def __init__(self, candidate: Candidate, signature: Signature, run: Step, after: Flow) -> None:
        self.candidate = candidate
        self.signature = signature
        self.output: str | None = after.output
        self.kind: OutputKind = after.kind
        self.run: Step = run

    def inputs(self, rows: Rows) -> Tensors:
        """Return *rows* as inputs of `run`: under the public names, in the public dtypes.

        Raises:
            WorkflowError: They don't fit the signature.
        """
        arrays = arrange([spec.name for spec in self.signature.inputs], rows)
        return {spec.name: fit(spec, arrays[spec.name]) for spec in self.signature.inputs}

    def classification(self, outputs: Mapping[str, Array]) -> Array:
        """Return the classification output among *outputs*.

        Raises:
            WorkflowError: It can't be told which it is; says how to name it.
        """
        if self.output is None:
            raise output_kinds.ambiguous(self.candidate.run, self.signature.outputs)
        return outputs[self.output]

    def close(self) -> None:
        """Let go of the sessions, which belong to the caller, without closing them."""
        self.run = _closed


def build(
    policy_file: PolicyFile,
    alternative: Alternative,
    candidate: Candidate,
    sessions: Sequence[Session],
    *,
    signatures: Mapping[str, Signature],
    sample: Rows | None,
    kinds: Mapping[str, OutputKind] | None = None,
) -> Pipeline:
    """Return *candidate* as a pipeline over *sessions*.

    With *sample*, its first rows are run through the steps: this warms the sessions, and dtypes
    and shapes of Python steps and the kinds of outputs are learned.

    Args:
        sessions: One a slot, in execution order; they stay the caller's.
        signatures: Of the artifacts, by model name: of the candidate's models and of all others
            in its slots, as far as they are available on this host.
        sample: Validation rows; needed where the run has a Python step.
        kinds: Of models' classification outputs, as measured (`Measurement.kind` of the
            candidates ``model:NAME``). A slot of several models converts logits to probabilities
            when some of its models are known, from the policy, from here, or (the model that
            fills it) from *sample*, to give the one and some the other. Without *kinds* a model
            that is not loaded counts as alike.

    Raises:
        WorkflowError: Steps, models and data don't fit together.
    """
    steps = nodes(policy_file.policy, alternative)
    open_slots = slots(policy_file.policy, alternative)
    fillers = [variant.model for variant in candidate.variants]
    _check_fillers(candidate, open_slots, fillers, sessions)
    known = {name: session.signature for name, session in zip(fillers, sessions, strict=True)}
    assembly = Assembly(
        policy_file,
        iter(list(zip(fillers, sessions, strict=True))),
        {**known, **signatures},
        kinds or {},
    )
    before = assembly.start(steps, sample, fillers)
    run, after = assembly.chain(steps, before)
    return Pipeline(candidate, Signature(before.specs, after.specs), run, after)


def _check_fillers(
    candidate: Candidate,
    open_slots: Sequence[Slot],
    fillers: Sequence[str],
    sessions: Sequence[Session],
) -> None:
    if not len(open_slots) == len(fillers) == len(sessions):
        raise WorkflowError(
            f"{candidate.id}: must have one variant and one session for each of "
            f"{len(open_slots)} slots, got {len(fillers)} and {len(sessions)}. "
            f"Plan again: the policy has changed since."
        )
    for slot, model in zip(open_slots, fillers, strict=True):
        if model not in slot.models:
            raise WorkflowError(
                f"{candidate.id}: {slot.path} takes one of {list(slot.models)}, got {model!r}. "
                f"Plan again: the policy has changed since."
            )


def _closed(_inputs: Tensors) -> Tensors:
    raise WorkflowError("A closed workflow can't run, got a request. Load it again.")
