"""What a policy says of its checks, told apart: the host's part, and each check's own settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from scanflow_serve.policies import schema
from scanflow_serve.policies.check_settings import WINDOWED
from scanflow_serve.policies.errors import DataError, PolicyError, UsageError
from scanflow_serve.policies.loader import PolicyFile, located
from scanflow_serve.runtime.artifacts import file_digest
from scanflow_serve.runtime.checks.blocks import reference_rows_needed
from scanflow_serve.runtime.checks.recipes import DEFAULT
from scanflow_serve.runtime.checks.rows import Reference
from scanflow_serve.runtime.checks.statistics.splits import honoured_run_length
from scanflow_serve.runtime.checks.strata import BESIDE_INPUTS, with_column
from scanflow_serve.runtime.tensors import Signature
from scanflow_serve.runtime.validation import Rows, load_rows
from scanflow_serve.runtime.workflow.inputs import arrange, fit

# Read by the host; a check's factory gets the others.
OWN = frozenset(
    {"name", "workflow", "reference", "input", "target", "expected_run_length", "ordered"}
    | {"warmup_rows", "min_span_s", "cooldown_s", "webhook", "strata", "strata_column", "block"}
    | {"in_reply"}
)
WARMUP_ROWS = 2000  # of live traffic, where there is no reference
LEAST_WARMUP_ROWS = 700  # 210 calibration rows: the default run length
UNCERTAIN = ("confidence", "entropy")  # methods that score what a model answers
COOLDOWN_S = 300.0  # between two alerts of one check


@dataclass(frozen=True, slots=True)
class Configured:
    """One entry of the policy's ``checks``.

    Attributes:
        where: Place in the policy, such as ``checks[1].drift``.
        index: In the policy's list.
        reference: File of rows of normal times; None: live traffic teaches them.
        inputs: Names that the policy gives; empty: all inputs.
        run_length: Rows between false alarms that it asks for; None: the default.
        ordered: The reference is in order of time.
        strata: What rows are divided by: ``hour``, ``session`` or an input; "" if by nothing.
        strata_column: Array of the reference file that tells each row's time or session.
        block: Rows that are bet on together; 0: each by itself.
        in_reply: Replies tell each row's p-value.
        warmup_rows: Live rows to learn from, where there is no reference.
        min_span_s: Time that these must span, such as a day's, in s.
        cooldown_s: Between two webhooks of its alarms.
        webhook: URL that its alarms are posted to; None: only the log and events have them.
        settings: Of the check's type.
    """

    name: str
    kind: str
    where: str
    index: int = 0
    workflow: str | None = None
    reference: str | None = None
    inputs: tuple[str, ...] = ()
    target: str | None = None
    run_length: int | None = None
    ordered: bool = False
    strata: str = ""
    strata_column: str = ""
    block: int = 0
    in_reply: bool = False
    warmup_rows: int = WARMUP_ROWS
    min_span_s: float = 0.0
    cooldown_s: float = COOLDOWN_S
    webhook: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def data(self) -> schema.Data | None:
        """Return which rows of which file the reference is, None if it has none."""
        if self.reference is None:
            return None
        inputs = list(self.inputs) or None
        if self.target is None:
            return schema.Data(data=self.reference, input=inputs)
        return schema.Validation(data=self.reference, input=inputs, target=self.target)


def configured(policy: schema.Policy) -> tuple[Configured, ...]:
    """Return the policy's checks in order."""
    return tuple(
        replace(_one(f"checks[{index}].{kind}", kind, check), index=index)
        for index, item in enumerate(policy.checks)
        for kind, check in item.items()
    )


def _one(where: str, kind: str, check: schema.Check) -> Configured:
    given = check.model_dump(exclude_none=True)
    named = given.get("input", ())
    block = int(_number(where, given, "block", 0, 0))
    least = max(LEAST_WARMUP_ROWS, reference_rows_needed(block))
    warmup_rows = _number(where, given, "warmup_rows", max(WARMUP_ROWS, least), least)
    return Configured(
        name=given.get("name", kind),
        kind=kind,
        where=where,
        workflow=given.get("workflow"),
        reference=given.get("reference"),
        inputs=(named,) if isinstance(named, str) else tuple(named),
        target=given.get("target"),
        run_length=given.get("expected_run_length"),
        ordered=bool(given.get("ordered", False)),
        strata=_text(where, given, "strata"),
        strata_column=_text(where, given, "strata_column"),
        block=block,
        in_reply=bool(given.get("in_reply", False)),
        warmup_rows=int(warmup_rows),
        min_span_s=_number(where, given, "min_span_s", 0.0, 0.0),
        cooldown_s=_number(where, given, "cooldown_s", COOLDOWN_S, 0.0),
        webhook=_url(where, given.get("webhook")),
        settings={key: value for key, value in given.items() if key not in OWN},
    )


def _number(where: str, given: Mapping[str, Any], key: str, default: float, least: float) -> float:
    value = given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
        raise UsageError(f"{where}.{key} must be a number >= {least:g}, got {value!r}.")
    return float(value)


def _text(where: str, given: Mapping[str, Any], key: str) -> str:
    value = given.get(key, "")
    if not isinstance(value, str):
        raise UsageError(f"{where}.{key} must be a text, got {value!r}.")
    return value


def _url(where: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise UsageError(f"{where}.webhook must be an http(s) URL, got {value!r}.")
    return value


def file_reference(
    check: Configured, policy_file: PolicyFile, signature: Signature, seed: int
) -> Reference:
    """Return the rows of the check's reference file, as the model takes them.

    Raises:
        DataError: The file lacks what the policy names.
        WorkflowError: Its arrays don't fit the inputs.
    """
    data = check.data()
    assert data is not None  # asked for by the caller
    rows = _without(load_rows(data, policy_file), check)
    specs = {spec.name: spec for spec in signature.inputs}
    if check.inputs and set(check.inputs) < specs.keys():  # some of several inputs
        arrays = rows.inputs
    else:
        arrays = arrange(list(specs), rows)
    reference = Reference(
        inputs={name: fit(specs[name], array) for name, array in arrays.items()},
        target=rows.target,
        ordered=check.ordered,
        seed=seed,
        source=check.reference or "",
    )
    if check.strata not in BESIDE_INPUTS or not check.strata_column:
        return reference
    column = load_rows(schema.Data(data=data.data, input=check.strata_column), policy_file)
    try:
        return with_column(reference, check.strata, column.inputs[check.strata_column])
    except ValueError as error:
        raise DataError(f"{check.where}: {error}") from None


def _without(rows: Rows, check: Configured) -> Rows:
    """Return *rows* without the array that divides them, which is no input."""
    if check.inputs or check.strata not in BESIDE_INPUTS:
        return rows
    kept = {name: array for name, array in rows.inputs.items() if name != check.strata_column}
    return replace(rows, inputs=kept)


def require_run_lengths(policy_file: PolicyFile) -> None:
    """Check that every reference file is there, and honours the run length that is asked for.

    Raises:
        PolicyError: More is asked for than its rows honour, or those of ``validation`` that
            checks on answers learn from; says where, and how many would.
        DataError: A file lacks what the policy names.
    """
    validation = policy_file.policy.validation
    for check in configured(policy_file.policy):
        data = check.data()
        rows = None if data is None else load_rows(data, policy_file).rows
        if check.run_length is None or check.settings.get("strict"):
            continue
        sizes = {} if rows is None else {"reference": _calibration_rows(check, rows)}
        if validation is not None and _looks_at_answers(check, validation):
            held_out = load_rows(validation, policy_file).rows
            sizes["validation"] = held_out - held_out // 10  # a tenth verifies, nothing is fitted
        for source, calibration in sizes.items():
            try:
                honoured_run_length(check.run_length, calibration)
            except ValueError as error:
                raise _too_long(policy_file, check, f"{error}", source) from None


def _calibration_rows(check: Configured, rows: int) -> int:
    """Return how many of a reference file's rows calibrate."""
    # Balance ranks nothing: its predictive distribution needs no calibration set.
    return rows if check.kind in ("balance", "integrity") else rows * 3 // 10


def _looks_at_answers(check: Configured, validation: schema.Validation) -> bool:
    """Return whether a check ranks what models answer to the rows of *validation*."""
    if check.kind != "drift":
        return False
    method, members = check.settings.get("method", DEFAULT), check.settings.get("members")
    if method in UNCERTAIN or "confidence" in (members or ()):
        return True
    divided = check.strata or check.block or method in WINDOWED
    return members is None and not divided and validation.metric != "r2"


def _too_long(policy_file: PolicyFile, check: Configured, text: str, source: str) -> PolicyError:
    rule, _, cure = text.removeprefix("expected_run_length ").partition(". ")
    keys = ("checks", check.index, check.kind, "expected_run_length")
    return located(policy_file, keys, f"{rule} ({source})", cure)


def digest(check: Configured, policy_file: PolicyFile, signature: Signature) -> str:
    """Return what all that the check learns follows from: settings, reference file, signature."""
    file = check.reference and file_digest(policy_file.resolve(check.reference))
    document = {
        "kind": check.kind,
        "inputs": check.inputs,
        "target": check.target,
        "ordered": check.ordered,
        "divided": [check.strata, check.strata_column, check.block],
        "settings": dict(check.settings),
        "reference": file,
        "signature": signature.to_json(),
    }
    text = json.dumps(document, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
