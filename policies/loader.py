"""From a policy file to a `PolicyFile`, or to one error that lists all of its faults.

The document is read once into nodes that know their places. Every stage then reports what it
finds: schema (pydantic), references between names, conditions, the files that are named. The
later ones read the nodes, not the models, so that one wrong value hides no other fault.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from scanflow_serve.policies.errors import Fault, PolicyError
from scanflow_serve.policies.files import check_files, inside
from scanflow_serve.policies.nodes import MAX_BYTES, Node, Place, Report, parse
from scanflow_serve.policies.references import check_references
from scanflow_serve.policies.schema import API_VERSION, Policy
from scanflow_serve.policies.translation import shown, translate

_START = "Start with: scanflow-serve quickstart"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy, and the file that it was read from.

    Attributes:
        path: As it was given.
        folder: The file's folder, absolute, symlinks resolved; nothing the policy names may
            lie outside.
        text: As it stands in the file, variables not expanded: they may be secret.
        digest: SHA-256, hex, of the document with variables expanded, as JSON with sorted keys;
            comments and layout don't change it.
    """

    policy: Policy
    path: Path
    folder: Path
    text: str
    digest: str

    def resolve(self, relative: str) -> Path:
        """Return the absolute path of *relative* in the policy's folder, symlinks resolved.

        Raises:
            PolicyError: It lies outside the folder.
        """
        resolved = inside(self.folder, relative)
        if resolved is None:
            rule = f"must be a path inside the policy's folder, got {relative!r}"
            cure = f"Put the file into {self.folder}."
            raise PolicyError([Fault(str(self.path), 1, 1, "", rule, cure)])
        return resolved


def located(
    policy_file: PolicyFile, keys: Sequence[str | int], rule: str, cure: str
) -> PolicyError:
    """Return a fault that shows only once more than the file is known, at its place in the file.

    Args:
        keys: Of the value, from the root; list items by number.
    """
    report = Report(str(policy_file.path))
    node = parse(policy_file.text, os.environ, report)
    for key in keys:
        if node is None:
            break
        node = node.items[key] if isinstance(key, int) else node.entries.get(key)
    if node is None:  # written under an environment that is not ours
        return PolicyError([Fault(str(policy_file.path), 1, 1, "", rule, cure)])
    told = Report(str(policy_file.path))
    told.add(node, rule, cure)
    return PolicyError(told.faults)


def load_policy(
    path: Path, *, environ: Mapping[str, str] | None = None, text: str | None = None
) -> PolicyFile:
    """Return the policy in the file at *path*; nothing that it names is imported or run.

    Args:
        environ: Where ``${NAME}`` is looked up; default: the process environment.
        text: Used instead of the file's text, for a policy that came another way; *path* then
            says where its relative paths start and what its faults are called.

    Raises:
        PolicyError: With every fault of the file.
    """
    path = Path(path)
    report = Report(str(path))
    text = _read(path, report) if text is None else _checked(text, report)
    root = None
    if not report.faults:
        root = parse(text, os.environ if environ is None else environ, report)
    policy = _validate(root, path, report) if root is not None else None
    if report.faults or policy is None or root is None:
        raise PolicyError(report.faults)
    canonical = json.dumps(root.plain(), sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return PolicyFile(policy, path, path.parent.resolve(), text, digest)


def _validate(root: Node, path: Path, report: Report) -> Policy | None:
    if not isinstance(root.content, dict):
        report.add(root, f"must be a mapping, got {shown(root.plain())}", _START)
        return None
    version = root.get("apiVersion")
    if version is not None and version.content != API_VERSION and not report.knows(version):
        rule = f"must be {API_VERSION}, got {shown(version.plain())}"
        report.add(version, rule, f"Write: apiVersion: {API_VERSION}")
    policy = None
    try:
        policy = Policy.model_validate(root.plain())
    except ValidationError as error:
        translate(error.errors(include_url=False), root, report)
    check_references(root, report)
    check_files(root, path.parent.resolve(), report)
    return policy


def _read(path: Path, report: Report) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        rule = f"must be a readable file, got {error.strerror or str(error)!r}"
        report.at(Place(1, 1), rule, "Check the path. A new policy: scanflow-serve quickstart")
        return ""
    if len(content) > MAX_BYTES:
        report.at(Place(1, 1), f"must have at most {MAX_BYTES} bytes", "Is this a policy?")
        return ""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].removeprefix(b"\xef\xbb\xbf").decode()
        place = Place(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        rule = f"must be UTF-8, got byte 0x{content[error.start]:02x}"
        report.at(place, rule, "Save the file as UTF-8.")
        return ""


def _checked(text: str, report: Report) -> str:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        rule = f"must be Unicode text, got a lone surrogate U+{ord(text[error.start]):04X}"
        report.at(Place(1, 1), rule, "Send it as UTF-8.")
        return ""
    if size > MAX_BYTES:
        report.at(Place(1, 1), f"must have at most {MAX_BYTES} bytes", "Is this a policy?")
    return text.removeprefix("\ufeff")
