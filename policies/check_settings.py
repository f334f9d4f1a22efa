"""What each type of check may be told beside the keys that all have.

One model a type; a type that is not in `SETTINGS`, such as a third party's, judges its own when it
is made.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from scanflow_serve.policies.nodes import Node, Report
from scanflow_serve.policies.schema import Check, Section
from scanflow_serve.policies.translation import nearest, translate

Bounds = Annotated[list[float | None], Field(min_length=2, max_length=2)]
INFER = "infer"


def _violation(rule: str, cure: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{rule}. {cure}", {"rule": rule, "cure": cure})


class IntegritySettings(Section):
    """Of ``integrity``: where its schema comes from, and what a person says over it."""

    schema_: str = Field(default=INFER, alias="schema", min_length=1)
    range: dict[str, Bounds] = Field(default_factory=dict)
    levels: dict[str, list[Any]] = Field(default_factory=dict)
    margin: float | None = Field(default=None, ge=0)
    cooldown_s: float | None = Field(default=None, ge=0)
    webhook: str | None = None

    @field_validator("range")
    @classmethod
    def _in_order(cls, value: dict[str, list[float | None]]) -> dict[str, list[float | None]]:
        for name, (low, high) in value.items():
            if low is not None and high is not None and low > high:
                raise _violation(
                    f"must give {name!r} its lowest value first, got [{low:g}, {high:g}]",
                    "Write [LOWEST, HIGHEST], null where there is no bound.",
                )
        return value

    @field_validator("levels")
    @classmethod
    def _scalars(cls, value: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for name, levels in value.items():
            if not levels or not all(isinstance(level, str | int) for level in levels):
                raise _violation(
                    f"must give {name!r} at least one text or whole number, got {levels!r}",
                    "For example: levels: {colour: [red, blue]}",
                )
        return value


# What scores a row by itself or within its window; `WINDOWED` hold a window against the reference.
SCORES = ("autoencoder", "window_dense", "lstm", "pca", "confidence", "entropy")
WINDOWED = ("ks", "psi", "chi2", "js", "wasserstein", "mmd")
TRAINED = SCORES[:3]  # by fit-checks
SEQUENCES = SCORES[1:3]
RECONSTRUCTIONS = SCORES[:4]
ONE_ROW = tuple(each for each in SCORES if each not in SEQUENCES)  # that look at a row by itself
# Setting -> the methods that have it; others are of all.
OF_METHODS = {
    "components": RECONSTRUCTIONS,
    "steps": (*SEQUENCES, "pca"),
    "epochs": TRAINED,
    "strata": ONE_ROW,
    "block": ONE_ROW,
}
# Strata that no input tells: in a file, a column does.
BESIDE_INPUTS = ("hour", "session")
WHOLE = ("classes", "features")  # members that look at all rows alike


class LiveSettings(Section):
    """Of every check that may learn normal times from live traffic."""

    ordered: bool = False  # the reference is in order of time
    warmup_rows: int | None = Field(default=None, ge=700)
    min_span_s: float | None = Field(default=None, ge=0)
    cooldown_s: float | None = Field(default=None, ge=0)
    webhook: str | None = None


class MethodSettings(LiveSettings):
    """Of ``anomaly``, and of ``drift``: how a row is scored."""

    alpha: float | None = Field(default=None, gt=0, lt=1)  # share of normal rows that is flagged
    components: int | None = Field(default=None, ge=1)  # width of the bottleneck
    steps: int | None = Field(default=None, ge=2)  # rows of a window
    epochs: int | None = Field(default=None, ge=1)  # of training, at most
    strata: str | None = Field(default=None, min_length=1)  # hour, session, or an input
    strata_column: str | None = Field(default=None, min_length=1)  # of the reference file


class AnomalySettings(MethodSettings):
    """Of ``anomaly``: whether replies tell what it says."""

    in_reply: bool = False  # each row's p-value, computed before the reply is sent


class DriftSettings(MethodSettings):
    """Of ``drift``: what else bets, and how carefully."""

    members: list[Literal["confidence", "classes", "features"]] | None = None
    strict: bool = False
    block: int | None = Field(default=None, ge=2)  # rows that are bet on together
    max_age_s: float | None = Field(default=None, gt=0)  # of a window


SETTINGS: dict[str, type[Section]] = {
    "integrity": IntegritySettings,
    "anomaly": AnomalySettings,
    "drift": DriftSettings,
    "balance": LiveSettings,
}
METHODS = {"anomaly": SCORES, "drift": (*SCORES, *WINDOWED)}


def check_settings(kind: str, node: Node, root: Node, report: Report) -> None:
    """Add a fault to *report* for every setting of a check that its type does not take.

    Args:
        node: The settings, with the keys that all checks have.
    """
    model = SETTINGS.get(kind)
    if model is None:
        return
    own = {field.alias or name for name, field in model.model_fields.items()}
    for key, child in node.entries.items():
        if key not in own and key not in Check.model_fields:
            cure = nearest(key, own | Check.model_fields.keys())
            report.add(child, f"is not a setting of {kind}", cure, at=child.key)
    try:
        model.model_validate({k: v.plain() for k, v in node.entries.items() if k in own})
    except ValidationError as error:
        translate(error.errors(include_url=False), node, report)
    if kind == "integrity":
        _require_reference(node, root, report)
    if kind in METHODS:
        _require_method(kind, node, report)


def _require_method(kind: str, node: Node, report: Report) -> None:
    """Add a fault for a method that is none of *kind*, or a setting that its method lacks."""
    told = node.get("method")
    method = SCORES[0] if told is None else told.text
    if method is None:
        return  # no text: told already
    if told is not None and method not in METHODS[kind]:
        rule = f"must be one of {', '.join(METHODS[kind])}, got {method!r}"
        cure = nearest(method, METHODS[kind])
        report.add(told, rule, cure if cure.startswith("Did") else "")
        return
    for key, methods in OF_METHODS.items():
        if key in node.entries and method not in methods:
            rule = f"must come with method {', '.join(methods)}, got method {method!r}"
            report.add(node.entries[key], rule, "Remove it, or choose another method.")
    ordered = node.get("ordered")
    in_order = ordered is not None and ordered.content is True
    if method in SEQUENCES and "reference" in node.entries and not in_order:
        rule = f"must be in order of time for method {method!r}, got ordered: false"
        report.add(node.entries["reference"], rule, "Say ordered: true if it is.")
    told = node.get("in_reply")
    if told is not None and told.content is True and method in SEQUENCES:
        rule = f"must come with a method that looks at single rows, got method {method!r}"
        report.add(told, rule, "Remove it, or choose another method.")
    if "block" in node.entries and "reference" in node.entries and not in_order:
        rule = "must be in order of time to be taken in blocks, got ordered: false"
        report.add(node.entries["reference"], rule, "Say ordered: true if it is.")
    _require_divisible(node, report)


def _require_divisible(node: Node, report: Report) -> None:
    """Add a fault where rows are to be divided that nothing tells apart, or that can't be."""
    strata, column = node.get("strata"), node.get("strata_column")
    beside = strata is not None and strata.text in BESIDE_INPUTS
    if beside and strata is not None and "reference" in node.entries and column is None:
        rule = f"must come with strata_column where there is a reference, got {strata.text!r} alone"
        report.add(strata, rule, "Name the array of the reference that tells it.")
    if column is not None and not (beside and "reference" in node.entries):
        rule = "must come with strata: hour or session, and a reference"
        report.add(column, rule, "Remove it.")
    members = node.get("members")
    if members is None or not ("block" in node.entries or strata is not None):
        return
    for member in members.items:
        if member.text in WHOLE:
            rule = f"must score rows where there are strata or a block, got {member.text!r}"
            report.add(member, rule, "Leave it out.")


def _require_reference(node: Node, root: Node, report: Report) -> None:
    told = node.get("schema")
    if told is None or told.content != INFER:
        return
    if not any((node.get("reference"), root.get("calibration"), root.get("validation"))):
        rule = "must have rows to be inferred from, got no reference, calibration or validation"
        report.add(told, rule, "Add reference: FILE, or name a schema: FILE.yaml.")
