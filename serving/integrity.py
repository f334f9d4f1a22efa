"""The policy's integrity checks, opened: their reference, their schema in the state folder."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scanflow_serve.policies import schema as policy_schema
from scanflow_serve.policies.errors import UsageError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import file_digest
from scanflow_serve.runtime.checks.flagged import image_inputs
from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.checks.input_schema import Schema, read_schema, to_yaml
from scanflow_serve.runtime.checks.inspection import Finding, shown
from scanflow_serve.runtime.checks.integrity import Integrity
from scanflow_serve.runtime.checks.rows import Setting
from scanflow_serve.runtime.checks.schema_inference import infer, of_signature
from scanflow_serve.runtime.tensors import Signature, Tensors
from scanflow_serve.runtime.validation import Rows, load_rows
from scanflow_serve.runtime.workflow.inputs import arrange, fit

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine

log = logging.getLogger("scanflow_serve.checks")
KIND = "integrity"
# Settings that the class takes as they are; the others say where its schema comes from.
_PASSED = ("on_fail", "range", "levels", "margin")


def integrity_checks(
    engine: Engine, state: Path | None, notify: Callable[[Finding], None] | None = None
) -> tuple[Integrity, ...]:
    """Return the policy's integrity checks of the active run, armed.

    Args:
        state: Where inferred schemas are kept; None: nowhere.
        notify: Told of findings, seldom; default: the log is.

    Raises:
        UsageError: A setting or a schema does not fit the model's inputs.
        PolicyError: A schema file has faults.
        DataError: The reference lacks what the policy names.
        WorkflowError: Its arrays don't fit the inputs.
    """
    policy_file = engine.policy_file
    main = engine.served(policy_file.policy.name)
    active = (None, policy_file.policy.name, main.pipeline.candidate.run)
    return tuple(
        _opened(
            f"checks[{index}].{KIND}",
            check,
            policy_file,
            main.signature,
            None if state is None else state / "checks",
            notify or _log,
        )
        for index, item in enumerate(policy_file.policy.checks)
        for kind, check in item.items()
        if kind == KIND and check.workflow in active
    )


def _log(finding: Finding) -> None:
    log.warning(
        "check %s: %s%s of row %d must be %s, got %s (rule %s)",
        finding.check,
        finding.input,
        finding.at,
        finding.row,
        finding.expected,
        shown(finding.value),
        finding.rule,
    )


def _opened(
    where: str,
    check: policy_schema.Check,
    policy_file: PolicyFile,
    signature: Signature,
    folder: Path | None,
    notify: Callable[[Finding], None],
) -> Integrity:
    given = check.model_dump(exclude_none=True)
    name = check.name or KIND
    rows = _reference(check, policy_file)
    columns = _columns(rows, signature)
    try:
        made = Integrity(
            Setting(signature, images=image_inputs(policy_file.policy, signature)),
            name=name,
            columns=columns,
            images=_images(policy_file.policy, signature),
            notify=notify,
            **{key: given[key] for key in _PASSED if key in given},
        )
        source = given.get("schema")
        if source not in (None, "infer"):
            made.adopt(read_schema(policy_file.resolve(source)))
        elif rows is None:
            made.adopt(of_signature(signature, made.told))
        else:
            made.adopt(_inferred(made, rows, signature, folder))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{where}: {error}") from None
    return made


class _Source:
    """Rows of normal times and the file that they came from."""

    def __init__(self, rows: Rows, path: Path, shown_as: str) -> None:
        self.rows = rows
        self.path = path
        self.shown_as = shown_as


def _reference(check: policy_schema.Check, policy_file: PolicyFile) -> _Source | None:
    """Return the check's reference, else the policy's calibration or validation rows."""
    policy = policy_file.policy
    data: policy_schema.Data | None = policy.calibration or policy.validation
    if check.reference is not None:
        names = [check.input] if isinstance(check.input, str) else check.input
        data = policy_schema.Data(data=check.reference, input=names)
        if check.target is not None:
            data = policy_schema.Validation(data=check.reference, input=names, target=check.target)
    if data is None:
        return None
    whole = data.model_copy(update={"samples": None})
    return _Source(load_rows(whole, policy_file), policy_file.resolve(data.data), data.data)


def _columns(source: _Source | None, signature: Signature) -> dict[str, tuple[str, ...]]:
    """Return the names of an only input's values, where the reference has a column for each."""
    if source is None or len(signature.inputs) != 1:
        return {}
    given = source.rows.inputs
    if len(given) > 1 and all(array.ndim == 1 for array in given.values()):
        return {signature.inputs[0].name: tuple(given)}
    return {}


def _images(policy: policy_schema.Policy, signature: Signature) -> dict[str, ImageShape]:
    image = policy.serve.image
    if image is None:
        return {}
    channels = 1 if image.mode == "L" else 3
    shape = ImageShape(image.layout, image.height, image.width, channels)
    return {image.input or signature.inputs[0].name: shape}


def _inferred(
    check: Integrity, source: _Source, signature: Signature, folder: Path | None
) -> Schema:
    """Return the schema kept in *folder* while it still is that of *source*; else infer one."""
    digest = _digest(check, source, signature)
    path = None if folder is None else folder / f"{check.name}.schema.yaml"
    if path is not None and path.exists():
        kept = read_schema(path)
        if kept.digest == digest:
            return kept
    made = infer(
        _arranged(source.rows, signature),
        signature,
        check.told,
        source=source.shown_as,
        digest=digest,
    )
    if path is not None:
        _keep(path, to_yaml(made))
    return made


def _arranged(rows: Rows, signature: Signature) -> Tensors:
    arrays = arrange([spec.name for spec in signature.inputs], rows)
    return {spec.name: fit(spec, arrays[spec.name]) for spec in signature.inputs}


def _digest(check: Integrity, source: _Source, signature: Signature) -> str:
    told = check.told
    document: Mapping[str, Any] = {
        "data": file_digest(source.path),
        "inputs": list(source.rows.inputs),
        "signature": signature.to_json()["inputs"],
        "told": [dict(told.range), dict(told.levels), told.margin],
        "images": {name: str(shape) for name, shape in told.images.items()},
    }
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _keep(path: Path, text: str) -> None:
    """Write the schema whole or not at all; the one before, which people may have corrected, too.

    A folder that can't be written costs the next start its inference, nothing else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.replace(path.with_suffix(".yaml.old"))
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
        ) as draft:
            draft.write(text)
        Path(draft.name).replace(path)
    except OSError as error:
        log.warning("%s: schema can't be kept there: %s", path, error.strerror)
