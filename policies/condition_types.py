"""The load-time checker of conditions: names, member paths and types over the parse tree.

Every node of celpy's grammar (cel.lark) gets a type from the vocabulary, bottom up, or an
error at its place; a rule of the grammar that has no method here is refused. Integer literals
are promoted to double on the way, in the tree, except where they index a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lark import Token, Tree

from scanflow_serve.policies.condition_tree import (
    UNTYPED,
    arguments_of,
    check_pattern,
    depth,
    error_at,
    fits,
    literal_of,
    name_of,
    source_of,
    string_value,
    unwrapped,
)
from scanflow_serve.policies.translation import nearest
from scanflow_serve.policies.vocabulary import VARIABLES, ListType, MapType, RecordType, Type

_TEXT_FUNCTIONS = ("startsWith", "endsWith", "contains", "matches")
_MACROS = ("all", "exists", "exists_one", "filter", "map")
_FUNCTIONS = ("has", "size", "double")
_MAX_DEPTH = 150  # levels of the tree; evaluating takes about 3 Python frames a level


@dataclass(frozen=True, slots=True)
class _Bound:
    """A variable of a macro; whether it runs over the names of the configured checks."""

    type: Type
    is_check: bool = False


def check(tree: Tree[Token], variables: frozenset[str], checks: frozenset[str]) -> None:
    """Raise what is wrong with the condition *tree*, and promote its integer literals.

    Raises:
        ConditionError: At the first wrong name or type, from left to right.
    """
    if depth(tree) > _MAX_DEPTH:
        raise error_at(tree, "must be nested less deeply", "Split it, or use 'in' with a list.")
    checker = _Checker(variables, checks)
    result = checker.type_of(tree)
    if result != "bool":
        raise error_at(
            tree, f"must be true or false, got {name_of(result)}", "Compare it with something."
        )


class _Checker:
    """Types a tree: one method for each of the grammar's rules."""

    def __init__(self, variables: frozenset[str], checks: frozenset[str]) -> None:
        self._variables = variables
        self._checks = checks
        self._scope: dict[str, _Bound] = {}

    def type_of(self, tree: Any) -> Type:
        """Return the type of *tree*."""
        if len(tree.children) == 1 and isinstance(tree.children[0], Tree):
            if tree.data == "list_lit":
                return self._list(tree)
            if tree.data == "map_lit":
                return self._map(tree)
            return self.type_of(tree.children[0])
        rule: Callable[[Any], Type] | None = getattr(self, f"_{tree.data}", None)
        if rule is None:
            raise error_at(
                tree,
                "must not use this part of CEL",
                "Use variables, operators and functions only.",
            )
        return rule(tree)

    # Operators

    def _expr(self, tree: Any) -> Type:
        condition, yes, no = tree.children
        self._expect(condition, "bool", "what stands before ?")
        return self._same(tree, self.type_of(yes), self.type_of(no), "both sides of :")

    def _conditionalor(self, tree: Any) -> Type:
        return self._both(tree, "bool", "||")

    def _conditionaland(self, tree: Any) -> Type:
        return self._both(tree, "bool", "&&")

    def _relation(self, tree: Any) -> Type:
        operator, right_tree = tree.children
        left, right = self.type_of(operator.children[0]), self.type_of(right_tree)
        name = operator.data.removeprefix("relation_")
        sign = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}.get(name)
        if sign is None:
            return self._in(tree, left, right)
        self._same(tree, left, right, f"both sides of {sign}")
        if sign not in ("==", "!=") and left not in ("double", "string"):
            raise error_at(tree, f"{sign} needs numbers or text, got {name_of(left)}", "")
        return "bool"

    def _in(self, tree: Any, item: Type, container: Type) -> Type:
        if isinstance(container, ListType):
            self._same(tree, item, container.item, "an item and its list, around 'in',")
        elif isinstance(container, MapType):
            self._same(tree, item, "string", "a key and its map, around 'in',")
        else:
            rule = f"'in' needs a list or map on its right, got {name_of(container)}"
            raise error_at(tree, rule, 'For example: "avx2" in host.cpu.features')
        return "bool"

    def _addition(self, tree: Any) -> Type:
        operator, right = tree.children
        left = self.type_of(operator.children[0])
        sign = {"addition_add": "+", "addition_sub": "-"}[operator.data]
        both = self._same(tree, left, self.type_of(right), f"both sides of {sign}")
        if both == "double" or (sign == "+" and both == "string"):
            return both
        raise error_at(tree, f"{sign} needs numbers, got {name_of(both)}", "")

    def _multiplication(self, tree: Any) -> Type:
        operator, right = tree.children
        sign = {"mul": "*", "div": "/", "mod": "%"}[operator.data.removeprefix("multiplication_")]
        if sign == "%":
            raise error_at(tree, "% is not defined: all numbers are double", "Use / instead.")
        self._expect(operator.children[0], "double", f"the left of {sign}")
        self._expect(right, "double", f"the right of {sign}")
        return "double"

    def _unary(self, tree: Any) -> Type:
        operator, operand = tree.children
        wanted: Type = "bool" if operator.data == "unary_not" else "double"
        self._expect(operand, wanted, "what stands after " + ("!" if wanted == "bool" else "-"))
        return wanted

    # Members

    def _member_dot(self, tree: Any) -> Type:
        owner = self.type_of(tree.children[0])
        return self._member(tree.children[1], owner, tree.children[1].value, tree.children[0])

    def _member(self, where: Any, owner: Type, name: str, owner_tree: Any) -> Type:
        if isinstance(owner, RecordType):
            if name not in owner.members:
                path = source_of(owner_tree)
                rule = f"must name a member of {path}, got {name!r}"
                raise error_at(where, rule, nearest(name, owner.members))
            return owner.members[name]
        if isinstance(owner, MapType):
            if source_of(owner_tree) == "checks":
                self._configured(where, name)
            return owner.value
        rule = f"must name a member of a record or map, got {name!r} of {name_of(owner)}"
        raise error_at(where, rule, "")

    def _member_index(self, tree: Any) -> Type:
        owner_tree, index = tree.children
        owner = self.type_of(owner_tree)
        literal = literal_of(index)
        if isinstance(owner, ListType):
            if literal is None or literal.type != "INT_LIT" or literal.value.startswith("-"):
                raise error_at(index, "a list must be indexed by a whole number >= 0", "")
            return owner.item
        self._expect(index, "string", "a key in [ ]")
        if isinstance(owner, MapType) and source_of(owner_tree) != "checks":
            return owner.value
        if literal is not None:
            return self._member(index, owner, string_value(literal), owner_tree)
        bound = self._scope.get(source_of(index))
        if isinstance(owner, MapType) and bound is not None and bound.is_check:
            return owner.value
        rule = f"a key of {source_of(owner_tree)} must be written out, so that it can be checked"
        raise error_at(index, rule, 'For example: checks["drift"]')

    def _configured(self, where: Any, name: str) -> None:
        if name not in self._checks:
            raise error_at(
                where, f"must name a configured check, got {name!r}", nearest(name, self._checks)
            )

    def _ident(self, tree: Any) -> Type:
        name = tree.children[0].value
        if name in self._scope:
            return self._scope[name].type
        if name not in self._variables:
            known = ", ".join(sorted(self._variables))
            rule = f"must name one of the variables {known}, got {name!r}"
            cure = nearest(name, self._variables)
            raise error_at(tree, rule, cure if cure.startswith("Did") else "Put text in quotes.")
        return VARIABLES[name]

    # Functions

    def _ident_arg(self, tree: Any) -> Type:
        name, arguments = tree.children[0].value, arguments_of(tree, 1)
        if name not in _FUNCTIONS:
            known = [*_FUNCTIONS, *_TEXT_FUNCTIONS, *_MACROS]
            raise error_at(tree, f"must name a known function, got {name!r}", nearest(name, known))
        self._arity(tree, name, arguments, 1)
        if name == "has":
            member = unwrapped(arguments[0])
            if member.data != "member_dot":
                rule = "has() needs a member"
                raise error_at(arguments[0], rule, "For example: has(host.labels.zone)")
            self.type_of(member)
            return "bool"
        argument = self.type_of(arguments[0])
        if name == "size":
            return self._size(tree, argument)
        if argument not in ("string", "double"):
            raise error_at(tree, f"double() needs text, got {name_of(argument)}", "")
        return "double"

    def _member_dot_arg(self, tree: Any) -> Type:
        owner, name = tree.children[0], tree.children[1].value
        arguments = arguments_of(tree, 2)
        if name in _MACROS:
            return self._macro(tree, owner, name, arguments)
        if name == "size":
            self._arity(tree, name, arguments, 0)
            return self._size(tree, self.type_of(owner))
        if name not in _TEXT_FUNCTIONS:
            known = [*_TEXT_FUNCTIONS, *_MACROS, "size"]
            where = tree.children[1]
            raise error_at(where, f"must name a known function, got {name!r}", nearest(name, known))
        self._expect(owner, "string", f"what {name}() is asked of")
        self._arity(tree, name, arguments, 1)
        self._expect(arguments[0], "string", f"the argument of {name}()")
        literal = literal_of(arguments[0])
        if name == "matches" and literal is not None:
            check_pattern(arguments[0], string_value(literal))
        return "bool"

    def _macro(self, tree: Any, owner: Any, name: str, arguments: list[Any]) -> Type:
        over = self.type_of(owner)
        if not isinstance(over, ListType | MapType):
            raise error_at(tree, f"{name}() needs a list or map, got {name_of(over)}", "")
        self._arity(tree, name, arguments, 2)
        variable = unwrapped(arguments[0])
        if variable.data != "ident":
            rule = f"the first argument of {name}() must be a new name"
            raise error_at(arguments[0], rule, f"For example: {name}(item, item == …)")
        item: Type = over.item if isinstance(over, ListType) else "string"
        bound = _Bound(item, is_check=source_of(owner) == "checks")
        with self._binding(variable.children[0].value, bound):
            if name == "map":
                return ListType(self.type_of(arguments[1]))
            self._expect(arguments[1], "bool", f"the second argument of {name}()")
        return ListType(item) if name == "filter" else "bool"

    @contextmanager
    def _binding(self, name: str, bound: _Bound) -> Iterator[None]:
        outer = dict(self._scope)
        self._scope[name] = bound
        try:
            yield
        finally:
            self._scope = outer

    def _size(self, tree: Any, argument: Type) -> Type:
        if argument == "string" or isinstance(argument, ListType | MapType):
            return "double"
        raise error_at(tree, f"size() needs text, a list or a map, got {name_of(argument)}", "")

    def _arity(self, tree: Any, name: str, arguments: list[Any], wanted: int) -> None:
        if len(arguments) != wanted:
            raise error_at(tree, f"{name}() takes {wanted} argument(s), got {len(arguments)}", "")

    # Literals

    def _literal(self, tree: Any) -> Type:
        token = tree.children[0]
        if token.type in ("INT_LIT", "UINT_LIT"):
            digits = token.value.rstrip("uU")
            tree.children[0] = token.update("FLOAT_LIT", f"{float(int(digits, 0)):.1f}")
            return "double"
        if token.type == "FLOAT_LIT":
            return "double"
        if token.type == "BOOL_LIT":
            return "bool"
        if token.type in ("STRING_LIT", "MLSTRING_LIT"):
            return "string"
        raise error_at(tree, f"must not use {token.value!r}: no value has its type", "")

    def _list_lit(self, tree: Any) -> Type:
        return ListType(UNTYPED)

    def _map_lit(self, tree: Any) -> Type:
        return MapType(UNTYPED)

    def _list(self, tree: Any) -> Type:
        items = [self.type_of(item) for item in tree.children[0].children]
        for item in items[1:]:
            self._same(tree, items[0], item, "the items of a list")
        return ListType(items[0])

    def _map(self, tree: Any) -> Type:
        pairs = tree.children[0].children
        for key in pairs[::2]:
            self._expect(key, "string", "a key of a map")
        values = [self.type_of(value) for value in pairs[1::2]]
        for value in values[1:]:
            self._same(tree, values[0], value, "the values of a map")
        return MapType(values[0])

    # Agreement

    def _both(self, tree: Any, wanted: Type, sign: str) -> Type:
        left, right = tree.children
        self._expect(left, wanted, f"the left of {sign}")
        self._expect(right, wanted, f"the right of {sign}")
        return wanted

    def _expect(self, tree: Any, wanted: Type, what: str) -> None:
        found = self.type_of(tree)
        if found != wanted:
            raise error_at(tree, f"{what} must be {name_of(wanted)}, got {name_of(found)}", "")

    def _same(self, tree: Any, left: Type, right: Type, what: str) -> Type:
        if not fits(left, right):
            rule = f"{what} must have one type, got {name_of(left)} and {name_of(right)}"
            raise error_at(tree, rule, "")
        return left
