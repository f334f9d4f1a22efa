"""The policy's checks over the rows of a file: the host of a live server, fed from the disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scanflow_serve.converters.domain_classifier import Separation, separate
from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import UsageError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.checks.batches import batches
from scanflow_serve.runtime.checks.configuration import (
    configured,
    file_reference,
    require_run_lengths,
)
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.lifecycle import State
from scanflow_serve.runtime.checks.references import SEED
from scanflow_serve.runtime.checks.replicas import merge_replicas
from scanflow_serve.runtime.checks.tap import Tapped
from scanflow_serve.runtime.engine import Engine, Served
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.tensors import Tensors
from scanflow_serve.runtime.validation import rows_of
from scanflow_serve.serving import composition
from scanflow_serve.serving.checks import subject_of
from scanflow_serve.serving.http.checks import check_json
from scanflow_serve.serving.http.guard import Guard
from scanflow_serve.serving.http.site import open_guard

BATCH = 32  # rows shown at once


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the checks say of a file.

    Attributes:
        rows: In the file.
        checks: As ``GET /checks/{check}`` shows each; rows are named by their number.
        run_length: Rows between false alarms.
        events: What happened, in order.
        separation: How well a domain classifier tells the rows from the reference, if asked for.
    """

    state: State
    rows: int
    run_length: float
    checks: tuple[dict[str, Any], ...]
    events: tuple[str, ...]
    separation: Separation | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "state": self.state,
            "rows": self.rows,
            "run_length": self.run_length,
            "checks": list(self.checks),
            "events": list(self.events),
            **({"domain_classifier": self.separation.to_json()} if self.separation else {}),
        }


def over_file(policy_file: PolicyFile, data: Path, *, classifier: bool = False) -> Outcome:
    """Return what the policy's checks say of the rows in the file *data*.

    Args:
        classifier: Ask a domain classifier too, whether it can tell them from the reference.

    Raises:
        UsageError: The policy has no checks, one refuses its settings, or none has a reference that
            a classifier could learn from.
        DataError: The file lacks what the model takes.
        ScanflowError: No variant can answer on this host.
    """
    if not policy_file.policy.checks:
        raise UsageError(f"{policy_file.path}: checks must not be empty, got none. Add one.")
    require_run_lengths(policy_file)
    engine = Engine(composition.prepared(policy_file, profile_host()))
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _over_rows(engine, data, Path(folder), classifier)
    finally:
        engine.close()


def over_states(policy_file: PolicyFile, folders: Sequence[Path]) -> Outcome:
    """Return where the replicas that keep their states in *folders* stand together.

    Raises:
        UsageError: The policy has no checks, or one refuses its settings.
        StateError: No folder has a state that fits the policy.
        ScanflowError: No variant can answer on this host.
    """
    if not policy_file.policy.checks:
        raise UsageError(f"{policy_file.path}: checks must not be empty, got none. Add one.")
    engine = Engine(composition.prepared(policy_file, profile_host()))
    events: list[Event] = []
    try:
        with tempfile.TemporaryDirectory() as scratch:
            host = Host(subject_of(engine), Path(scratch), events.append)
            merge_replicas(host, folders)
            return _outcome(host, host.rows, events)
    finally:
        engine.close()


def _outcome(host: Host, rows: int, events: Sequence[Event]) -> Outcome:
    found = tuple(check_json(host, watch) for watch in host.watches)
    return Outcome(host.state, rows, host.run_length, found, tuple(each.text for each in events))


def _over_rows(engine: Engine, data: Path, folder: Path, classifier: bool) -> Outcome:
    main = engine.served(engine.policy_file.policy.name)
    names = [spec.name for spec in main.signature.inputs]
    declared = engine.policy_file.policy.validation or engine.policy_file.policy.calibration
    known = names if declared is None or declared.input is None else declared.input
    inputs = main.pipeline.inputs(rows_of(data, schema.Data(data=data.name, input=known)))
    guard = open_guard(engine, folder)
    events: list[Event] = []
    inline = {} if guard is None else {each.name: each for each in guard.checks}
    host = Host(subject_of(engine), folder, events.append, cost_share=1e-9, inline=inline)
    host.arm()
    rows = 0
    for tapped in _answered(main, inputs):
        _inspect(guard, tapped)
        host.process(batches([tapped]), 1)
        rows += len(tapped.ids)
    found = _outcome(host, rows, events)
    return replace(found, separation=_separation(engine, inputs)) if classifier else found


def _separation(engine: Engine, inputs: Tensors) -> Separation:
    policy_file = engine.policy_file
    signature = engine.served(policy_file.policy.name).signature
    for check in configured(policy_file.policy):
        if check.reference is not None and check.kind != "integrity":
            reference = file_reference(check, policy_file, signature, SEED).inputs
            return separate(reference, {name: inputs[name] for name in reference})
    rule = "must have a check with a reference for --classifier, got none"
    raise UsageError(f"{policy_file.path}: checks {rule}. Add one, such as reference: rows.npz")


def _answered(main: Served, inputs: Tensors) -> Iterator[Tapped]:
    """Yield the rows as the server would have answered them; their numbers are their ids."""
    pipeline = main.pipeline
    rows = len(next(iter(inputs.values())))
    for at in range(0, rows, BATCH):
        part = {name: array[at : at + BATCH] for name, array in inputs.items()}
        ids = [str(row) for row in range(at, min(at + BATCH, rows))]
        yield Tapped(
            ids,
            part,
            pipeline.run(part),
            pipeline.output,
            pipeline.kind,
            pipeline.candidate.variant_id,
            time.time(),
            "",
            0,
        )


def _inspect(guard: Guard | None, tapped: Tapped) -> None:
    for check in guard.checks if guard is not None else ():
        check.inspect(tapped.inputs, len(tapped.ids))
