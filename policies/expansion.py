"""``${NAME}`` and ``${NAME:-default}`` in scalar values, and the types of plain scalars."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

_REFERENCE = re.compile(
    r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|\$\{[^}]*\}?"
)
# YAML 1.2.2, section 10.3.2 (core schema).
_CONSTANTS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MAX_DIGITS = 18  # of an integer that fits 64 bits; longer ones are read as floats


class ExpansionError(ValueError):
    """A scalar refers to a variable that is not set, or in a way that is not known."""

    def __init__(self, rule: str, cure: str) -> None:
        self.rule = rule
        self.cure = cure
        super().__init__(f"{rule}. {cure}")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Return *text* with its variables replaced, once: values are not expanded again.

    As in a shell, ``:-`` gives the default for a variable that is unset or empty.
    ``$${`` stands for a literal ``${``.

    Raises:
        ExpansionError: A variable without a default is not set, or a reference is malformed.

    >>> expand("${HOST:-127.0.0.1}:${PORT}", {"PORT": "3000"})
    '127.0.0.1:3000'
    """
    if "${" not in text:
        return text
    return _REFERENCE.sub(lambda match: _replacement(match, environ), text)


def _replacement(match: re.Match[str], environ: Mapping[str, str]) -> str:
    reference, name, default = match[0], match["name"], match["default"]
    if reference == "$${":
        return "${"
    if name is None:
        raise ExpansionError(
            f"must refer to a variable as ${{NAME}} or ${{NAME:-default}}, got {reference!r}",
            "Write $${ for a literal ${.",
        )
    value = environ.get(name)
    if default is not None and not value:
        return default[2:]
    if value is None:
        raise ExpansionError(
            f"needs the environment variable {name}, which is not set",
            f"Set it, or give a default: ${{{name}:-VALUE}}.",
        )
    return value


def resolve_plain(text: str) -> Scalar:
    """Return the value of a scalar without quotes, typed by YAML's core schema.

    >>> [resolve_plain(text) for text in ("3000", "0.5", "true", "no", "")]
    [3000, 0.5, True, 'no', None]
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
