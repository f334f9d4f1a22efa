"""Where each check's rows of normal times come from: a file, `validation`, or live traffic.

Checks on inputs may learn from training data. Checks on answers may not: a model is surer of what
it was trained on, and clean traffic would look like drift. They learn from `validation`, or from
live rows, run once through every variant that can answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.checks.batches import answers
from scanflow_serve.runtime.checks.configuration import Configured, file_reference
from scanflow_serve.runtime.checks.rows import Answers, Observed, Reference
from scanflow_serve.runtime.checks.statistics.splits import reference_rows_needed
from scanflow_serve.runtime.checks.storage import Checkpoint, Storage
from scanflow_serve.runtime.checks.warmup import Warmup
from scanflow_serve.runtime.tensors import OutputKind, Signature, Tensors
from scanflow_serve.runtime.workflow.slots import Step

SEED = 0
ASKED = 4  # reference rows a call: what a backend takes for a large batch it keeps for good
SHARED = ""  # the warm-up of checks whose inputs have a file, and whose answers have none


class Answering(Protocol):
    """What answers: a `Pipeline`."""

    @property
    def run(self) -> Step:
        """Return outputs for inputs."""
        ...

    @property
    def output(self) -> str | None:
        """Return the name of the classification output, None if there is none."""
        ...

    @property
    def kind(self) -> OutputKind:
        """Return what that output holds."""
        ...


Variants: TypeAlias = Mapping[str, Answering]


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks watch.

    Attributes:
        workflow: Name of the run, for checks that name theirs.
        variants: Returns what can answer now, by variant id.
    """

    policy_file: PolicyFile
    signature: Signature
    classes: tuple[str, ...] | None
    workflow: str
    variants: Callable[[], Variants]


class References:
    """The references of one policy's checks.

    Args:
        storage: Keeps live rows over a restart.
        digests: Of each check, by name: live rows of another model are not taken up.
    """

    def __init__(
        self,
        subject: Subject,
        checks: Sequence[Configured],
        storage: Storage,
        digests: Mapping[str, str],
    ) -> None:
        self._subject = subject
        self._checks = {check.name: check for check in checks}
        self._storage = storage
        self._digests = digests
        self._warmups: dict[str, Warmup] = {}
        self._learned: dict[str, Reference] = {}
        self._resume()

    def inputs(self, name: str) -> Reference | None:
        """Return the rows that check *name* learns inputs from; None while they are collected.

        Raises:
            DataError: The reference file lacks what the policy names.
            WorkflowError: Its arrays don't fit the inputs.
        """
        if name in self._learned:
            return self._learned[name]
        check = self._checks[name]
        if name in self._warmups or check.reference is None:
            self._collect(name)
            return None
        return file_reference(check, self._subject.policy_file, self._subject.signature, SEED)

    def answers(self, name: str) -> Reference | None:
        """Return rows and what each loaded variant answers; None while they are collected.

        Raises:
            DataError, WorkflowError: As `inputs`.
        """
        check = self._checks[name]
        live = name in self._learned or name in self._warmups
        if live or (check.kind == "balance" and check.reference is not None):
            reference = self.inputs(name)
        else:
            reference = self._held_out(check)
        return None if reference is None else self._answered(reference)

    def observe(self, rows: Observed) -> list[str]:
        """Take live rows in where they are collected; return the checks that have enough now.

        `SHARED` stands for those that lack answers only.
        """
        complete: list[str] = []
        for name, warmup in list(self._warmups.items()):
            warmup.observe(rows)
            reference = warmup.reference(SEED)
            if reference is not None:
                self._learned[name] = reference
                self._keep(name, warmup)
                del self._warmups[name]
                complete.append(name)
        return complete

    def why(self, name: str) -> str:
        """Return what check *name* waits for, "" if for nothing."""
        warmup = self._warmups.get(name) or self._warmups.get(SHARED)
        return "" if warmup is None else warmup.why or f"collects {warmup.wanted} live rows"

    def rebase(self, name: str) -> None:
        """Forget the reference of check *name*; it is collected from live traffic."""
        self._learned.pop(name, None)
        self._warmups.pop(name, None)
        self._collect(name)
        self._keep(name, self._warmups[name])

    def checkpoint(self) -> None:
        """Keep the rows collected so far."""
        for name, warmup in self._warmups.items():
            if warmup.changed:
                self._keep(name, warmup)

    def _held_out(self, of: Configured) -> Reference | None:
        """Return the rows that the models were not trained on, divided as check *of* says."""
        policy_file = self._subject.policy_file
        data = policy_file.policy.validation
        if data is None:
            if SHARED in self._learned:
                return self._learned[SHARED]
            self._collect(SHARED)
            return None
        check = Configured("validation", "", "validation", reference=data.data, target=data.target)
        given = (data.input,) if isinstance(data.input, str) else tuple(data.input or ())
        check = replace(
            check,
            inputs=given,
            ordered=bool(of.block) and of.ordered,
            strata=of.strata,
            strata_column=of.strata_column,
        )
        return file_reference(check, policy_file, self._subject.signature, SEED)

    def _answered(self, reference: Reference) -> Reference:
        found = {
            variant: _answers(each, reference.inputs, self._most_rows())
            for variant, each in self._subject.variants().items()
        }
        return replace(reference, answers=found)

    def _most_rows(self) -> int:
        return min(ASKED, self._subject.policy_file.policy.scheduling.max_batch)

    def _collect(self, name: str) -> None:
        if name in self._warmups:
            return
        checks = [self._checks[name]] if name != SHARED else list(self._checks.values())
        asked = [reference_rows_needed(check.run_length or 0) for check in checks]
        self._warmups[name] = Warmup(
            max([check.warmup_rows for check in checks] + asked),
            max(check.min_span_s for check in checks),
            SEED,
        )

    def _resume(self) -> None:
        for name in (*self._checks, SHARED):
            kept = self._storage.load(_file(name), self._digest(name))
            if kept is None:
                continue
            self._collect(name)
            warmup = self._warmups[name]
            warmup.restore(kept.arrays)
            reference = warmup.reference(SEED)
            if reference is not None:
                self._learned[name] = reference
                del self._warmups[name]

    def _keep(self, name: str, warmup: Warmup) -> None:
        kept = Checkpoint(self._digest(name), {}, warmup.state())
        self._storage.save(_file(name), kept)

    def _digest(self, name: str) -> str:
        return self._digests.get(name, "")


def _file(name: str) -> str:
    return f"{name}.live" if name else "answers.live"


def _answers(answering: Answering, inputs: Tensors, most_rows: int) -> Answers:
    """Return what one variant answers to *inputs*, asked in batches as a request's are."""
    rows = len(next(iter(inputs.values())))
    parts = [
        answering.run({name: array[at : at + most_rows] for name, array in inputs.items()})
        for at in range(0, rows, most_rows)
    ]
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return answers(outputs, answering.output, answering.kind)
