"""What goes into the scheduler and what comes out, whatever the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from scanflow_serve.runtime.checks.inspection import Finding
from scanflow_serve.runtime.tensors import Array, OutputKind, Tensors

Prefer: TypeAlias = Literal["accuracy", "latency"]


@dataclass(slots=True)
class Request:
    """One request for a model or workflow.

    Attributes:
        model: Public name: the policy's, a workflow's or a model's.
        inputs: By public input name, each of shape (rows, …), dtype as the signature says.
        rows: Rows, >= 1; all inputs agree.
        deadline_ms: Budget from arrival, in ms; None means the policy's default.
        prefer: What this client asked for, over rules and objective.
        client: Who sent it; the queue is shared fairly between clients.
        priority: Lower runs first, 0 by default.
    """

    model: str
    inputs: Tensors
    rows: int
    deadline_ms: float | None = None
    prefer: Prefer | None = None
    client: str = ""
    priority: int = 0


@dataclass(slots=True)
class Response:
    """The answer to one request.

    Attributes:
        outputs: By public output name, each of shape (rows, …).
        prediction_ids: A ULID for every row.
        variant: ``Candidate.variant_id`` of what answered.
        queue_ms: Time before inference began.
        compute_ms: Time of inference, with all that ran in the same call.
        labels: Class names of what answered, in output order; None if it has none.
        output: Name of the classification output; None if it can't be told.
        kind: What that output holds.
        accuracy: Of what answered, on the validation set or declared; None if unknown.
        batch_rows: Rows of the call that this request was part of.
        late: Inference ended after the deadline.
        findings: What integrity checks found in the inputs; None: none looked.
        check_states: Of each check on live traffic, by name, as last seen; None: there are none.
        p_values: Of each row, shape (rows,), by the checks that replies are to tell of.
    """

    outputs: Tensors
    prediction_ids: list[str]
    model: str
    version: str
    workflow: str
    variant: str
    queue_ms: float
    compute_ms: float
    labels: tuple[str, ...] | None = None
    output: str | None = None
    kind: OutputKind = "other"
    accuracy: float | None = None
    batch_rows: int = 0
    late: bool = False
    findings: tuple[Finding, ...] | None = None
    check_states: Mapping[str, str] | None = None
    p_values: Mapping[str, Array] = field(default_factory=dict)
