"""The policy file as a tree of nodes: each value, its key path, and where it stands.

libyaml parses; this module builds the tree from its events, because composing first would
follow aliases, tags and duplicate keys that a policy must not have. Plain scalars are typed
by the core schema of YAML 1.2 (section 10.3.2), as editors read the same file: ``no`` and
``on`` are text, not booleans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias

import yaml

from scanflow_serve.policies.errors import Fault
from scanflow_serve.policies.expansion import ExpansionError, Scalar, expand, resolve_plain

MAX_BYTES = 1 << 20  # bytes of a policy file; the largest sensible one has some 20 KiB
MAX_NODES = 50_000  # after aliases are followed: bounds "billion laughs"
MAX_DEPTH = 64  # nesting; parallel steps in parallel steps need about 10
MAX_EXPANDED = 4 * MAX_BYTES  # characters of all scalars together, once expanded

Content: TypeAlias = "Scalar | dict[str, Node] | list[Node]"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A position in the file, both numbers 1-based."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the document.

    Attributes:
        path: Key path, such as ``targets[0].run``; empty for the root.
        place: Where the value starts.
        key: Where its key starts; for list items and the root the same as *place*.
        verbatim: Where the text of a scalar starts, if it stands in the file unchanged, in one
            line: without variables and escapes.
    """

    path: str
    place: Place
    key: Place
    content: Content
    verbatim: Place | None = None

    def get(self, *keys: str) -> Node | None:
        """Return the value under *keys*, or None where a key or a mapping is missing."""
        node: Node | None = self
        for key in keys:
            node = node.entries.get(key) if node is not None else None
        return node

    @property
    def entries(self) -> Mapping[str, Node]:
        """Return the entries of a mapping; of anything else, none."""
        return self.content if isinstance(self.content, dict) else {}

    @property
    def items(self) -> list[Node]:
        """Return the items of a list; of anything else, none."""
        return self.content if isinstance(self.content, list) else []

    @property
    def text(self) -> str | None:
        """Return the text of a scalar that is text, else None."""
        return self.content if isinstance(self.content, str) else None

    def texts(self) -> Iterator[Node]:
        """Yield the node itself, or its items, where they are text: one name or several."""
        for node in self.items or [self]:
            if node.text is not None:
                yield node

    def plain(self) -> Any:
        """Return the value as dicts, lists and scalars."""
        if isinstance(self.content, dict):
            return {key: node.plain() for key, node in self.content.items()}
        if isinstance(self.content, list):
            return [node.plain() for node in self.content]
        return self.content


@dataclass(slots=True)
class Report:
    """The faults found so far, in one file."""

    file: str
    faults: list[Fault] = field(default_factory=list)

    def add(self, node: Node, rule: str, cure: str = "", *, at: Place | None = None) -> None:
        """Add a fault of *node*, at its value unless *at* says otherwise."""
        place = at or node.place
        self.at(place, rule, cure, path=node.path)

    def knows(self, node: Node) -> bool:
        """Return whether *node* or a value inside it has a fault already."""
        inside = (f"{node.path}.", f"{node.path}[")
        return any(f.path == node.path or f.path.startswith(inside) for f in self.faults)

    def at(self, place: Place, rule: str, cure: str = "", *, path: str = "") -> None:
        """Add a fault at *place*; the same fault twice counts once."""
        fault = Fault(self.file, place.line, place.column, path, rule, cure)
        if fault not in self.faults:
            self.faults.append(fault)


class _Stop(Exception):
    """The rest of the file can't be read; the fault is in the report."""


def parse(text: str, environ: Mapping[str, str], report: Report) -> Node | None:
    """Return the document's root, or None where the file can't be read to its end.

    Args:
        text: The file's text, at most `MAX_BYTES` long.
        environ: What ``${NAME}`` in scalar values is looked up in.
        report: Gets the faults: syntax, tags, duplicate keys, missing variables.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        events = _events(loader(text))
        return _Reader(events, text, environ, report).document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        what = f"must hold printable text, got character U+{_code(error.character):04X}"
        report.at(Place(line, column), what, "Remove it.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
        problem = " ".join(part for part in (error.problem, error.context) if part)
        cure = "Check the indentation (spaces, no tabs), brackets and quotes here and just above."
        if any("${" in line for line in text.splitlines()[: place.line][-2:]):
            cure = "Inside [ ] and { }, put quotes around ${…}."
        report.at(place, f"must be YAML: {problem}", cure)
    except _Stop:
        pass
    return None


def _code(character: Any) -> int:
    return character if isinstance(character, int) else ord(character)


def _events(loader: Any) -> Iterator[Any]:
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Reader:
    """Builds nodes from a stream of YAML events."""

    def __init__(
        self, events: Iterator[Any], text: str, environ: Mapping[str, str], report: Report
    ) -> None:
        self._events = events
        self._text = text
        self._environ = environ
        self._report = report
        self._anchors: dict[str, Node] = {}
        self._nodes = 0
        self._expanded = 0

    def document(self) -> Node | None:
        """Return the root of the only document."""
        event = next(self._events)
        while isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            self._report.at(
                Place(1, 1), "must not be empty", "Start with: scanflow-serve quickstart"
            )
            return None
        root = self._node(event, "", None, 0)
        next(self._events)  # the document's end
        event = next(self._events)
        if isinstance(event, yaml.DocumentStartEvent):
            rule = "must hold one document, got a second one"
            self._report.at(_place(event), rule, "Write each policy to a file of its own.")
        return root

    def _node(self, event: Any, path: str, key: Place | None, depth: int) -> Node:
        place = _place(event)
        self._count(place, 1)
        if depth > MAX_DEPTH:
            self._stop(place, f"must be nested at most {MAX_DEPTH} deep", "Simplify it.")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, path, key or place)
        if event.tag is not None:
            rule = f"must not have a YAML tag, got {event.tag!r}"
            self._report.at(place, rule, "Remove the tag; put text in quotes.", path=path)
        node = Node(path, place, key or place, None)
        if isinstance(event, yaml.MappingStartEvent):
            node = replace(node, content=self._mapping(path, depth))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = replace(node, content=self._sequence(path, depth))
        else:
            node = self._scalar(event, node)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _mapping(self, path: str, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            place = _place(event)
            if not isinstance(event, yaml.ScalarEvent):
                self._stop(place, "must have text as a key, got a list or mapping", "Name it.")
            name = event.value
            child = f"{path}.{name}" if path else name
            if name == "<<":
                rule = "must not be a merge key, which YAML 1.2 does not have"
                self._report.at(place, rule, "Write the keys out.", path=child)
            value = self._node(next(self._events), child, place, depth + 1)
            if name in entries:
                first = entries[name].key
                rule = f"must be given once, got it on line {first.line} too"
                self._report.at(place, rule, "Remove one of the two.", path=child)
            elif name != "<<":
                entries[name] = value
        return entries

    def _sequence(self, path: str, depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, f"{path}[{len(items)}]", None, depth + 1))
        return items

    def _scalar(self, event: Any, node: Node) -> Node:
        value: str = event.value
        try:
            expanded = expand(value, self._environ)
        except ExpansionError as error:
            self._report.add(node, error.rule, error.cure)
            return node
        self._expanded += len(expanded)
        if self._expanded > MAX_EXPANDED:
            rule = f"must have at most {MAX_EXPANDED} characters once variables are expanded"
            self._stop(node.place, rule, "Shorten the variables.")
        content = resolve_plain(expanded) if event.style in (None, "") else expanded
        quoted = event.style in ("'", '"')
        start = event.start_mark.index + quoted
        verbatim = None
        if self._text.startswith(expanded, start) and "\n" not in expanded:
            verbatim = Place(node.place.line, node.place.column + quoted)
        return replace(node, content=content, verbatim=verbatim)

    def _alias(self, event: Any, path: str, key: Place) -> Node:
        place = _place(event)
        if event.anchor not in self._anchors:
            self._stop(
                place,
                f"must refer to an anchor above that is complete, got *{event.anchor}",
                f"Define it with &{event.anchor} above.",
            )
        return self._moved(self._anchors[event.anchor], path, place, key)

    def _moved(self, node: Node, path: str, place: Place, key: Place) -> Node:
        """Return a copy of *node* whose paths start at *path*; values stay where they stand."""
        self._count(place, 1)
        content = node.content
        if isinstance(content, dict):
            content = {
                name: self._moved(child, f"{path}.{name}", child.place, child.key)
                for name, child in content.items()
            }
        elif isinstance(content, list):
            content = [
                self._moved(child, f"{path}[{number}]", child.place, child.key)
                for number, child in enumerate(content)
            ]
        return Node(path, place, key, content)

    def _count(self, place: Place, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            rule = f"must hold at most {MAX_NODES} values, aliases followed"
            self._stop(place, rule, "Write fewer, or without aliases of aliases.")

    def _stop(self, place: Place, rule: str, cure: str) -> NoReturn:
        self._report.at(place, rule, cure)
        raise _Stop


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)
