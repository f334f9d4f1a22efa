"""pydantic's errors as faults: where in the file, the rule in the policy's words, the cure."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import Tag
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from scanflow_serve.policies.descriptions import description
from scanflow_serve.policies.nodes import Node, Report
from scanflow_serve.policies.schema import Policy, Section

_MAX_SHOWN = 60  # characters of a value in a message

_UNITS = {
    "_ms": "Give milliseconds, for example 50.",
    "_mb": "Give mebibytes, for example 512.",
    "_rps": "Give requests per second, for example 100.",
    "_s": "Give seconds, for example 30.",
}
# Type of pydantic error -> rule and cure. {key: value} are the error's context.
_RULES: dict[str, tuple[str, str]] = {
    "greater_than": ("must be > {gt:g}", ""),
    "greater_than_equal": ("must be >= {ge:g}", ""),
    "less_than": ("must be < {lt:g}", ""),
    "less_than_equal": ("must be <= {le:g}", ""),
    "finite_number": ("must be a finite number", ""),
    "float_type": ("must be a number", "Write it without quotes or unit."),
    "int_type": ("must be a whole number", "Write it without quotes, fraction or unit."),
    "bool_type": ("must be true or false", "Write it without quotes."),
    "string_type": ("must be text", "Put it in quotes."),
    "list_type": ("must be a list", "Write [A, B], or an item a line after '- '."),
    "dict_type": ("must be a mapping", "Write KEY: VALUE lines, indented below it."),
    "model_type": ("must be a mapping", "Write KEY: VALUE lines, indented below it."),
    "string_too_short": ("must not be empty", "Give it a value, or remove the key."),
    "too_short": ("must have at least {min_length} item(s)", "Add one."),
    "too_long": ("must have at most {max_length} item(s)", "Remove the rest."),
    "step_kind": (
        "must have exactly one of the keys model, python, workflow, parallel, script, checker",
        "For example: - model: digits-cnn",
    ),
    "run_kind": (
        "must be a workflow's name, {{any: [NAME, …]}} or {{sequence: [NAME, …]}}",
        "Name a workflow that is defined under workflows.",
    ),
}
_NAME_RULE = (
    "must match [A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    "Use up to 63 letters, digits, '.', '_' and '-', a letter or digit first.",
)
_CALLABLE_RULE = ("must be module:function", "For example: steps:softmax")
_ONE_CHECK = ("must have one key, the check's type", "For example: - drift: {method: ks}")


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a cure that names the known word nearest to *word*, or else lists all of them.

    >>> nearest("objectiv", ["models", "objective"])
    "Did you mean 'objective'?"
    >>> nearest("x", ["models", "objective"])
    'Known: models, objective.'
    """
    known = sorted(known)
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {folded[close[0]]!r}?"
    return f"Known: {', '.join(known)}." if known else "None is defined."


def shown(value: Any) -> str:
    """Return *value* as a message shows it: short, and in YAML's words where they differ."""
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def translate(errors: Iterable[ErrorDetails], root: Node, report: Report) -> None:
    """Add a fault to *report* for each of pydantic's *errors* about the document *root*."""
    for error in errors:
        node, missing, at_key = _find(root, error["loc"])
        if report.knows(node) and missing is None and node.path:
            continue  # its cause is told already, such as a variable that is not set
        kind = error["type"]
        if kind == "missing" and missing is not None:
            _add_missing(error["loc"], node, missing, report)
        elif kind == "extra_forbidden":
            name = str(error["loc"][-1])
            rule = "is not a known key"
            report.add(node, rule, nearest(name, _keys(error["loc"][:-1])), at=node.key)
        elif kind == "rule":
            context = error.get("ctx", {})
            report.add(node, context["rule"], context["cure"])
        else:
            rule, cure = _rule(error)
            got = at_key if at_key is not None else node.plain()
            place = node.key if at_key is not None else None
            report.add(node, f"{rule}, got {shown(got)}", cure, at=place)


def _find(root: Node, loc: Sequence[str | int]) -> tuple[Node, str | None, str | None]:
    """Return the node at *loc*, the key that it lacks, and the key that is itself at fault."""
    node = root
    for part in loc:
        if isinstance(part, str) and part.startswith("~"):
            continue  # the tag of an alternative
        if part == "[key]":
            return node, None, str(loc[-2])
        if isinstance(part, int):
            if part >= len(node.items):
                break
            node = node.items[part]
        elif part in node.entries:
            node = node.entries[part]
        else:
            return node, part, None
    return node, None, None


def _add_missing(loc: Sequence[str | int], node: Node, key: str, report: Report) -> None:
    field = _field(loc)
    purpose = ""
    if field is not None:
        purpose = _purpose(*field)
    path = f"{node.path}.{key}" if node.path else key
    cure = f"Add it: {purpose}" if purpose else "Add it."
    report.at(node.key, "must be given, got nothing", cure, path=path)


def _purpose(owner: type[Section], field: FieldInfo, key: str) -> str:
    if text := field.description or description(owner, key):
        return text
    section = next(iter(_sections(field.annotation)), None)
    return (section.__doc__ or "").splitlines()[0] if section is not None else ""


def _rule(error: ErrorDetails) -> tuple[str, str]:
    kind, loc, context = error["type"], error["loc"], error.get("ctx", {})
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        cure = nearest(str(error["input"]), choices)
        return f"must be {_alternatives(choices)}", "" if cure.startswith("Known") else cure
    if kind == "string_pattern_mismatch":
        return _CALLABLE_RULE if ":" in str(context["pattern"]) else _NAME_RULE
    if kind in ("too_short", "too_long") and len(loc) == 2 and loc[0] == "checks":
        return _ONE_CHECK
    rule, cure = _RULES.get(kind, (error["msg"][:1].lower() + error["msg"][1:], ""))
    unit = next((cure for end, cure in _UNITS.items() if _key(loc).endswith(end)), cure)
    is_number = kind.startswith(("greater", "less", "float", "finite", "int"))
    return rule.format(**context) if kind in _RULES else rule, unit if is_number else cure


def _alternatives(choices: Sequence[str]) -> str:
    return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"


def _key(loc: Sequence[str | int]) -> str:
    return next((p for p in reversed(loc) if isinstance(p, str) and p[:1] != "~"), "")


def _keys(loc: Sequence[str | int]) -> set[str]:
    """Return the keys that the section at *loc* may have."""
    annotation: Any = Policy
    for part in loc:
        annotation = _step(annotation, part)
    return {
        field.alias or name
        for section in _sections(annotation)
        for name, field in section.model_fields.items()
    }


def _field(loc: Sequence[str | int]) -> tuple[type[Section], FieldInfo, str] | None:
    annotation: Any = Policy
    for part in loc[:-1]:
        annotation = _step(annotation, part)
    for section in _sections(annotation):
        for name, field in section.model_fields.items():
            if loc[-1] in (name, field.alias):
                return section, field, str(loc[-1])
    return None


def _step(annotation: Any, part: str | int) -> Any:
    """Return the type of what lies under *part* of a value of type *annotation*."""
    for option in _options(annotation):
        tags = [m.tag for m in getattr(option, "__metadata__", ()) if isinstance(m, Tag)]
        if part in tags:
            return get_args(option)[0]
        bare = _bare(option)
        if isinstance(part, int) and get_origin(bare) is list:
            return get_args(bare)[0]
        if get_origin(bare) is dict:
            return get_args(bare)[1]
        for section in _sections(bare):
            for name, field in section.model_fields.items():
                if part in (name, field.alias):
                    return field.annotation
    return None


def _options(annotation: Any) -> list[Any]:
    """Return the alternatives of *annotation*, which is one of them if it is no union."""
    bare = _bare(annotation)
    if get_origin(bare) in (Union, types.UnionType):
        return [option for member in get_args(bare) for option in _options(member)]
    return [annotation]


def _bare(annotation: Any) -> Any:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return annotation


def _sections(annotation: Any) -> list[type[Section]]:
    found = [_bare(option) for option in _options(annotation)]
    return [bare for bare in found if isinstance(bare, type) and issubclass(bare, Section)]
