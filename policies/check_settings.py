"""What each type of check may be told beside the keys that all have.

One model a type; a type that is not in `SETTINGS`, such as a third party's, judges its own when it
is made.
"""

from __future__ import annotations

from typing import Annotated, Any

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


SETTINGS: dict[str, type[Section]] = {"integrity": IntegritySettings}


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


def _require_reference(node: Node, root: Node, report: Report) -> None:
    told = node.get("schema")
    if told is None or told.content != INFER:
        return
    if not any((node.get("reference"), root.get("calibration"), root.get("validation"))):
        rule = "must have rows to be inferred from, got no reference, calibration or validation"
        report.add(told, rule, "Add reference: FILE, or name a schema: FILE.yaml.")
