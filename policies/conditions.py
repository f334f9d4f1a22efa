"""Conditions: CEL expressions over host, traffic, latency, checks, feedback and model.

cel-python parses and evaluates; what a condition may say is checked when it is compiled, by
`condition_types`. It is imported where used: a policy without conditions doesn't pay for it
(0.1 s and 16 MB).

All numbers are double. Integer literals are promoted, and so is what `size` returns.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celpy import Runner

MAX_LENGTH = 4096  # characters; bounds the parser's work


class ConditionError(ValueError):
    """A condition can't be right: its syntax, a name or a type.

    Attributes:
        line: In the condition's text, 1-based.
        column: In that line, 1-based.
    """

    def __init__(self, rule: str, cure: str, line: int, column: int) -> None:
        self.rule = rule
        self.cure = cure
        self.line = line
        self.column = column
        super().__init__(f"{line}:{column}: {rule}. {cure}".rstrip())


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition; may be shared between threads."""

    text: str
    _runner: Runner = field(repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Return whether the condition is true of *values*.

        What is not known makes no condition hold: a label that the host doesn't have, a check
        that is not configured, a figure that is None or absent, an index past a list's end.
        As CEL has it, such an error decides the whole condition, unless the other side of
        ``||`` is true or that of ``&&`` false; so ``!(host.labels.zone == "x")`` does not hold
        either on a host without that label. ``has(host.labels.zone)`` and
        ``"zone" in host.labels`` ask whether it is there.

        Args:
            values: Variable name -> its value: nested mappings, sequences, sets, text, numbers,
                booleans.
        """
        from celpy.evaluation import CELEvalError

        activation = {name: _cel(value) for name, value in values.items()}
        with self._lock:  # celpy's evaluator keeps its state in the runner
            try:
                return bool(self._runner.evaluate(activation))
            except CELEvalError:
                return False


def compile_condition(text: str, variables: frozenset[str], checks: frozenset[str]) -> Condition:
    """Return the condition that *text* writes down.

    Args:
        variables: Which of `vocabulary.VARIABLES` it may name.
        checks: Names of the configured checks.

    Raises:
        ConditionError: Its syntax, a name, a type or its result is wrong.
    """
    from celpy import celtypes

    from scanflow_serve.policies.condition_types import check

    tree = parse_condition(text)
    check(tree, variables, checks)
    size = {"size": lambda container: celtypes.DoubleType(len(container))}
    return Condition(text, _environment().program(tree, functions=size))


def parse_condition(text: str) -> Any:
    """Return the parse tree of *text*, a ``lark.Tree``.

    Raises:
        ConditionError: It is not CEL.
    """
    from celpy.celparser import CELParseError

    if len(text) > MAX_LENGTH:
        raise ConditionError(f"must have at most {MAX_LENGTH} characters", "Split it.", 1, 1)
    try:
        return _environment().compile(text)
    except CELParseError as error:
        token = getattr(error.__context__, "token", None)
        at_end = getattr(token, "type", "") == "$END"  # which lark places at the last token
        line, column = _place(text, None if at_end else error.line, error.column)
        raise ConditionError(*_syntax(text, line, column), line, column) from None
    except RecursionError:
        raise ConditionError("must be nested less deeply", "Split it.", 1, 1) from None


@cache
def _environment() -> Any:
    import celpy

    limit = sys.getrecursionlimit()
    try:
        return celpy.Environment()
    finally:
        sys.setrecursionlimit(limit)  # celpy raises it for the whole process


def _place(text: str, line: int | None, column: int | None) -> tuple[int, int]:
    if line is not None and column is not None and line > 0 and column > 0:
        return line, column
    lines = text.split("\n")  # at the end of the text lark has no position
    return len(lines), len(lines[-1]) + 1


def _syntax(text: str, line: int, column: int) -> tuple[str, str]:
    lines = text.split("\n")
    rest = lines[line - 1][column - 1 :].strip() if line <= len(lines) else ""
    if rest.startswith("=") and not rest.startswith("=="):
        return f"must be CEL, got {rest[:20]!r}", "Compare with ==."
    for word, sign in (("and", "&&"), ("or", "||"), ("not", "!")):
        if rest == word or rest.startswith(f"{word} "):
            return f"must be CEL, got {word!r}", f"Write {sign}."
    return f"must be CEL, got {rest[:20]!r}" if rest else "must be CEL, got its end too early", (
        'For example: host.kind == "desktop" && host.cpu.cores >= 2'
    )


def _cel(value: Any) -> Any:
    """Return *value* in CEL's types: every number a double, unknown members left out."""
    from celpy import celtypes

    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, int | float):
        return celtypes.DoubleType(value)
    if isinstance(value, str):
        return celtypes.StringType(value)
    if isinstance(value, Mapping):
        return celtypes.MapType(
            {
                celtypes.StringType(key): _cel(item)
                for key, item in value.items()
                if item is not None
            }
        )
    items = sorted(value) if isinstance(value, set | frozenset) else value
    return celtypes.ListType([_cel(item) for item in items])
