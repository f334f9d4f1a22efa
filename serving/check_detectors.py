"""Trains what a policy's checks need, and says what each promises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scanflow_serve.converters.detectors.make import Order, make
from scanflow_serve.converters.sources import ingest
from scanflow_serve.policies.errors import PolicyError, ScanflowError, UsageError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.checks.configuration import Configured, configured, file_reference
from scanflow_serve.runtime.checks.kinds import score_of
from scanflow_serve.runtime.checks.recipes import DEFAULT, TRAINED
from scanflow_serve.runtime.checks.reconstruction import ReconstructionError
from scanflow_serve.runtime.checks.references import SEED
from scanflow_serve.runtime.checks.rows import Setting
from scanflow_serve.runtime.checks.statistics.promise import ALPHA
from scanflow_serve.runtime.store import shared_store
from scanflow_serve.runtime.stored import Refused
from scanflow_serve.runtime.tensors import Signature, TensorSpec
from scanflow_serve.runtime.validation import load_rows
from scanflow_serve.runtime.workflow.graph import Fork, Node, Slot, alternatives, nodes
from scanflow_serve.serving.progress import Progress

KINDS = ("anomaly", "drift")  # that have a method
# Of a check's settings, those that `drift` and `anomaly` keep for themselves.
OWN = ("method", "members", "window", "strict", "alpha")


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came of one check.

    Attributes:
        rows: Of its reference.
        figures: The manifest's verification: epochs, limits, rates, sizes.
        refusal: Why it may not be used; "" if it may.
    """

    check: str
    method: str
    rows: int
    key: str
    size_bytes: int
    figures: Mapping[str, Any]
    refusal: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "check": self.check,
            "method": self.method,
            "rows": self.rows,
            "key": self.key,
            "size_bytes": self.size_bytes,
            "refusal": self.refusal or None,
            **self.figures,
        }


def fit(policy_file: PolicyFile, progress: Progress) -> list[Fitted]:
    """Return what came of each check that needs training; one that several targets share is once.

    Raises:
        UsageError: A check asks for what is trained, and has no reference to train on.
        ScanflowError: As `converters.detectors.make`.
    """
    found: dict[tuple[str, str], Fitted] = {}
    for order in orders(policy_file):
        made = make(
            order,
            shared_store(),
            progress=lambda done, total, what, name=order.check: progress(  # type: ignore[misc]
                done, total, f"{name}: {what}"
            ),
        )
        fitted = _fitted(order, made)
        found.setdefault((fitted.check, fitted.key or fitted.refusal), fitted)
    return list(found.values())


def orders(policy_file: PolicyFile) -> Iterator[Order]:
    """Yield the detectors that the policy's checks need, for each form of inputs they may see.

    Raises:
        UsageError: A check has no reference to train on.
    """
    for check in configured(policy_file.policy):
        method = str(check.settings.get("method", DEFAULT))
        if check.kind not in KINDS or method not in TRAINED:
            continue
        if check.reference is None:
            raise UsageError(
                f"{check.where}: {method} must have a reference to train on, got none. "
                "Add reference: FILE, or say method: pca, which a device fits to live rows."
            )
        for signature in _signatures(check, policy_file):
            yield _order(check, method, signature, policy_file)


def _order(check: Configured, method: str, signature: Signature, policy_file: PolicyFile) -> Order:
    names = {spec.name for spec in signature.inputs}
    setting = Setting(
        signature,
        inputs=tuple(name for name in check.inputs if name in names),
        seed=SEED,
        strata=check.strata,
        block=check.block,
    )
    settings = {key: value for key, value in check.settings.items() if key not in OWN}
    try:
        score = score_of(method, setting, **settings)
    except ValueError as error:
        raise UsageError(f"{check.where}: {error}") from None
    assert isinstance(score, ReconstructionError)  # all that are trained are
    reference = file_reference(check, policy_file, signature, SEED)
    alpha = float(check.settings.get("alpha", ALPHA))
    return Order(check.where, check.name, score, reference, alpha)


def _signatures(check: Configured, policy_file: PolicyFile) -> list[Signature]:
    """Return the inputs that the targets' runs take: which of them a device will have is open."""
    policy = policy_file.policy
    found: list[Signature] = []
    for target in policy.targets:
        for run in alternatives(policy, target.run):
            if check.workflow is not None and check.workflow not in (run.name, *run.workflows):
                continue
            signature = _first_model(nodes(policy, run)[0], policy_file)
            signature = signature or _of_rows(check, policy_file)
            if signature not in found:
                found.append(signature)
    return found


def _first_model(node: Node, policy_file: PolicyFile) -> Signature | None:
    """Return the inputs of the model that a run begins with; None where a function does."""
    while isinstance(node, Fork):
        node = node.branches[0][0]
    if not isinstance(node, Slot):
        return None
    name = node.models[0]
    try:
        return Signature(
            ingest(name, policy_file.policy.models[name], policy_file).signature.inputs, ()
        )
    except PolicyError:
        raise
    except ScanflowError:
        return None  # it is converted first: its file has no inputs yet


def _of_rows(check: Configured, policy_file: PolicyFile) -> Signature:
    """Return the inputs as the reference has them."""
    data = check.data()
    assert data is not None  # asked for by the caller
    rows = load_rows(data, policy_file).inputs
    if len(rows) > 1 and all(array.ndim == 1 for array in rows.values()):
        return Signature((TensorSpec("rows", "float64", (None, len(rows))),), ())
    specs = (
        TensorSpec(name, "str" if a.dtype.kind in "OUS" else a.dtype.name, (None, *a.shape[1:]))
        for name, a in rows.items()
    )
    return Signature(tuple(specs), ())


def _fitted(order: Order, made: Artifact | Refused) -> Fitted:
    method, rows = order.score.recipe.method, order.reference.rows
    figures = made.manifest.verification
    if isinstance(made, Refused):
        return Fitted(order.check, method, rows, "", 0, figures, made.refusal.reason)
    return Fitted(order.check, method, rows, made.id, made.size_bytes, figures)
