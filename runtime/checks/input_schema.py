"""What inputs look like in normal times: a document that people read, correct and own.

Inferred from reference data (`schema_inference`) and kept as YAML. In the manner of JSON Schema
and of TensorFlow Data Validation's schema (Breck et al., SysML 2019), for rows of tensors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.policies.nodes import Node, Place, Report, parse
from scanflow_serve.policies.translation import nearest, shown

Bounds: TypeAlias = Annotated[list[float | None], Field(min_length=2, max_length=2)]
Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Level: TypeAlias = str | int | bool
Format: TypeAlias = Literal["number", "date"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Column(_Part):
    """One value of a row.

    Attributes:
        range: Lowest and highest that may come; null: no bound.
        levels: The categories that there are.
        format: What texts must read as.
        nulls: Share of the reference's rows that lack it; above 0 it may be missing.
        typical: What a repair puts in: the median, or the most frequent level.
        constant: All rows of the reference have the same value; for reviewers.
    """

    name: str
    range: Bounds | None = None
    levels: list[Level] | None = None
    format: Format | None = None
    nulls: Share = 0
    typical: Level | float | None = None
    constant: bool = False


class Picture(_Part):
    """Statistics of rows that are images: mean and standard deviation over a row's values.

    Attributes:
        aspect: Width by height, where the model leaves them open.
    """

    brightness: Bounds
    contrast: Bounds
    aspect: Bounds | None = None


class Input(_Part):
    """One input.

    Attributes:
        shape: Of a row; null where it varies.
        range: Of every value, where columns give none of their own.
        nulls: Share of the reference's values that are missing.
        typical: Median of all values.
        constant_rows: Rows of one repeated value occur in normal times.
        columns: Of a row's values, in order; none where they are not worth telling apart.
    """

    dtype: str
    shape: list[int | None]
    range: Bounds | None = None
    nulls: Share = 0
    typical: float | None = None
    constant_rows: bool = True
    columns: list[Column] = Field(default_factory=list)
    image: Picture | None = None


class Tried(_Part):
    """How often clean rows broke a schema inferred without them (cross-validation).

    Attributes:
        at_most: Upper 95 % bound of the share of clean rows that break it.
    """

    rows: Annotated[int, Field(ge=0)]
    broken: Annotated[int, Field(ge=0)]
    at_most: Share


class Schema(_Part):
    """The inputs of one run.

    Attributes:
        source: For people: where it comes from.
        digest: SHA-256, hex, of what it was inferred from; "" where a person wrote it.
        margin: By how much of its width each inferred range was widened on both sides.
        duplicates: The reference repeats rows.
        tried: None where a person wrote it.
    """

    version: Literal[1] = 1
    source: str = ""
    digest: str = ""
    rows: Annotated[int, Field(ge=0)] = 0
    margin: Annotated[float, Field(ge=0)] = 0
    duplicates: bool = True
    tried: Tried | None = None
    inputs: dict[str, Input]


_HEAD = """\
# What requests look like in normal times, inferred from {source} ({rows} rows).
# Read it, correct it: what stands here is what holds, until those data change.
# To own it, put a copy beside the policy and write: schema: FILE.yaml
"""


class _Dumper(yaml.SafeDumper):
    """Columns and lists in a line each, so that a schema is read as a table."""


def _represent_dict(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style="name" in value)


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=plain)


def _represent_str(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # PyYAML quotes what YAML 1.1 takes for something else; in 1.2 that is 1e3 too.
    style = None if re.fullmatch(r"(?!true$|false$|null$)[A-Za-z_][\w-]*", value, re.A) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _represent_str)
_Dumper.add_representer(dict, _represent_dict)
_Dumper.add_representer(list, _represent_list)


def to_yaml(schema: Schema) -> str:
    """Return the document, a line for each column."""
    body = yaml.dump(
        schema.model_dump(exclude_defaults=True) | {"version": schema.version},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=1 << 20,
    )
    return _HEAD.format(source=schema.source or "reference data", rows=schema.rows) + body


def from_yaml(text: str, file: str) -> Schema:
    """Return the schema that *text* holds.

    Raises:
        PolicyError: With every fault, at ``file:line:column``.
    """
    report = Report(file)
    root = parse(text, {}, report)
    if root is not None and not report.faults:
        try:
            return Schema.model_validate(root.plain())
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                _tell(fault, root, report)
    raise PolicyError(report.faults)


def read_schema(path: Path) -> Schema:
    """Return the schema in the file at *path*.

    Raises:
        PolicyError: It can't be read, or has faults.
    """
    try:
        return from_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        report = Report(str(path))
        rule = f"must be a readable file in UTF-8, got {error}"
        report.add(
            Node("", Place(1, 1), Place(1, 1), None), rule, "Write it anew, or `schema: infer`."
        )
        raise PolicyError(report.faults) from None


def _tell(fault: ErrorDetails, root: Node, report: Report) -> None:
    node, missing = root, ""
    for part in fault["loc"]:
        if isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        elif isinstance(part, str) and part in node.entries:
            node = node.entries[part]
        else:
            missing = str(part)
            break
    if report.knows(node) and not missing:
        return  # of several types that a value may have, one is told
    if fault["type"] == "missing":
        report.add(node, f"must give {missing!r}, got nothing", "Add it.", at=node.key)
    elif fault["type"] == "extra_forbidden":
        cure = nearest(str(fault["loc"][-1]), _KEYS)
        report.add(node, "is not a known key", cure, at=node.key)
    else:
        message = fault["msg"]
        rule = f"{message[:1].lower()}{message[1:]}, got {shown(node.plain())}"
        report.add(node, rule, "See docs/checks.md, Schema.")


_KEYS = {name for part in (Schema, Input, Column, Picture, Tried) for name in part.model_fields}
