"""What the operator says of a device: its kind and its labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from scanflow_serve.runtime.host.tree import Tree, printable

DEVICE_FILE = "/etc/scanflow/device.yaml"
KIND_VARIABLE = "SCANFLOW_DEVICE_KIND"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Declared:
    """A kind ("" if none is declared) and labels."""

    kind: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def read_declared(tree: Tree, environ: Mapping[str, str]) -> Declared:
    """Return what ``SCANFLOW_DEVICE_KIND`` and /etc/scanflow/device.yaml declare.

    The file has two keys, ``kind: car`` and ``labels: {line: press-3}``; the environment's kind
    prevails.
    """
    document = _document(tree)
    for key in sorted(map(str, document.keys() - {"kind", "labels"})):
        tree.warn(f"{DEVICE_FILE}: keys must be kind or labels, got {key[:40]!r}. Ignored.")
    kind = _name(tree, KIND_VARIABLE, environ.get(KIND_VARIABLE) or "")
    if not kind:
        kind = _name(tree, f"{DEVICE_FILE}: kind", document.get("kind") or "")
    return Declared(kind, _labels(tree, document.get("labels")))


def _document(tree: Tree) -> dict[Any, Any]:
    text = tree.text(DEVICE_FILE)
    if not text:
        return {}
    import yaml

    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        tree.warn(f"{DEVICE_FILE}: must be YAML, got {printable(str(error))!r}. Ignored.")
        return {}
    if isinstance(document, dict):
        return document
    tree.warn(f"{DEVICE_FILE}: must be a map, got {printable(str(document))[:40]!r}. Ignored.")
    return {}


def _name(tree: Tree, where: str, value: object) -> str:
    text = str(value).strip()
    if not text or _NAME.fullmatch(text):
        return text
    tree.warn(f"{where}: must match {_NAME.pattern}, got {text[:40]!r}. Ignored.")
    return ""


def _labels(tree: Tree, value: object) -> dict[str, str]:
    if value is None:
        return {}
    where = f"{DEVICE_FILE}: labels"
    if not isinstance(value, dict):
        tree.warn(f"{where}: must be a map, got {printable(str(value))[:40]!r}. Ignored.")
        return {}
    labels = {}
    for key, item in value.items():
        if isinstance(item, bool):
            labels[printable(str(key))] = str(item).lower()  # as YAML writes it
        elif isinstance(item, str | int | float):
            labels[printable(str(key))] = printable(str(item))
        else:
            tree.warn(f"{where}.{printable(str(key))}: must be a text or number. Ignored.")
    return dict(sorted(labels.items()))
