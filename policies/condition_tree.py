"""Reading a condition's parse tree: what a subtree says, where it stands, which types agree."""

from __future__ import annotations

from typing import Any

from lark import Token, Tree

from scanflow_serve.policies.conditions import ConditionError
from scanflow_serve.policies.vocabulary import ListType, MapType, RecordType, Type

UNTYPED: Type = RecordType({})  # item type of an empty list or map; fits any other


def depth(tree: Tree[Token]) -> int:
    """Return how many levels *tree* has."""
    deepest, level = 0, [tree]
    while level:
        deepest += 1
        level = [child for node in level for child in node.children if isinstance(child, Tree)]
    return deepest


def fits(left: Type, right: Type) -> bool:
    """Return whether values of the two types can be compared."""
    if left == right or UNTYPED in (left, right):
        return True
    if isinstance(left, ListType) and isinstance(right, ListType):
        return fits(left.item, right.item)
    if isinstance(left, MapType) and isinstance(right, MapType):
        return fits(left.value, right.value)
    return False


def name_of(value: Type) -> str:
    """Return a type as a message names it."""
    if isinstance(value, str):
        return {"double": "a number", "string": "text", "bool": "a truth value"}[value]
    return {ListType: "a list", MapType: "a map", RecordType: "a record"}[type(value)]


def unwrapped(tree: Any) -> Any:
    """Return the first tree inside *tree* that has several parts, or is a leaf's parent."""
    while len(tree.children) == 1 and isinstance(tree.children[0], Tree):
        if tree.data in ("list_lit", "map_lit"):
            break
        tree = tree.children[0]
    return tree


def literal_of(tree: Any) -> Token | None:
    """Return the token of a tree that is just a literal, else None."""
    inner = unwrapped(tree)
    return inner.children[0] if inner.data == "literal" else None


def string_value(token: Token) -> str:
    """Return the value of a text literal, its escapes read as at evaluation."""
    from celpy.evaluation import celstr

    return str(celstr(token))


def source_of(tree: Any) -> str:
    """Return the dotted path that *tree* writes down, or "this value" for anything else."""
    inner = unwrapped(tree)
    if inner.data == "ident":
        return str(inner.children[0].value)
    if inner.data == "member_dot":
        return f"{source_of(inner.children[0])}.{inner.children[1].value}"
    if inner.data == "member_index":
        key = literal_of(inner.children[1])
        return f"{source_of(inner.children[0])}[{key.value if key is not None else '…'}]"
    return "this value"


def arguments_of(tree: Any, given: int) -> list[Any]:
    """Return the arguments of a call: the child at *given*, where there are any."""
    return list(tree.children[given].children) if len(tree.children) > given else []


def check_pattern(tree: Any, pattern: str) -> None:
    """Raise a `ConditionError` if *pattern* is no regular expression."""
    import re2  # type: ignore[import-untyped]  # what celpy matches with

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        text = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise error_at(tree, f"must be a regular expression: {text}", "See RE2's syntax.") from None


def error_at(where: Any, rule: str, cure: str) -> ConditionError:
    """Return an error at the place of *where*, a token or a tree."""
    meta = where if isinstance(where, Token) else where.meta
    return ConditionError(
        rule, cure, getattr(meta, "line", None) or 1, getattr(meta, "column", None) or 1
    )
