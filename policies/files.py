"""The files that a policy names: inside its folder, there, and holding what is asked of them.

Nothing is imported, run or loaded: Python files are parsed, archives are listed.
"""

from __future__ import annotations

import csv
import re
import zipfile
from pathlib import Path

from scanflow_serve.policies.check_settings import INFER
from scanflow_serve.policies.functions import FunctionFault, find_function
from scanflow_serve.policies.nodes import Node, Report
from scanflow_serve.policies.references import entries, items, settings, steps
from scanflow_serve.policies.schema import COMBINES
from scanflow_serve.policies.translation import nearest

SCHEMES = ("torch", "models", "runs", "bento")  # of model sources that are not paths
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # two letters at least: not a drive
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]*)")


def inside(folder: Path, relative: str) -> Path | None:
    """Return the absolute path of *relative* in *folder*, or None if it lies outside.

    Symlinks are resolved: one that leads outside lies outside.

    Args:
        folder: Absolute, symlinks resolved.
    """
    try:
        resolved = (folder / relative).resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL in the name
        return None
    absolute = Path(relative).is_absolute() or "\\" in relative
    return resolved if resolved.is_relative_to(folder) and not absolute else None


def check_files(root: Node, folder: Path, report: Report) -> None:
    """Add a fault to *report* for every file that the document names and that won't do.

    Args:
        folder: The policy file's folder, absolute, symlinks resolved.
    """
    files = _Files(folder, report)
    for model in entries(root, "models").values():
        files.check_source(model.get("source"))
        files.existing(model.get("weights"))
    for data in (root.get("calibration"), root.get("validation")):
        if data is not None:
            files.check_data(data.get("data"), data.get("input"), data.get("target"))
    for step in steps(root):
        files.check_step(step)
    for check in items(root, "checks"):
        if (pair := settings(check)) is not None:
            node = pair[1]
            files.check_data(node.get("reference"), node.get("input"), node.get("target"))
            told = node.get("schema") if pair[0] == "integrity" else None
            files.existing(None if told is None or told.text == INFER else told)
    for keys in (("certificate",), ("key",)):
        files.existing(root.get("serve", "tls", *keys))
    files.existing(root.get("serve", "auth", "keys_file"))
    files.check_data(root.get("feedback", "retrain", "promote_if", "holdout"), None, None)
    files.check_kept(root.get("state"))
    files.check_url(root.get("store", "url"))
    files.check_url(root.get("track", "uri"))
    for workflow in entries(root, "workflows").values():
        files.check_url(workflow.get("tracker", "uri"))


class _Files:
    """Checks of single keys, all against one folder."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report

    def existing(self, node: Node | None, *, folder_too: bool = False) -> Path | None:
        """Return the path of the readable file that *node* names; None, and a fault, if not."""
        path = self.check_kept(node)
        if node is None or path is None:
            return None
        if not path.exists():
            near = nearest(path.name, self._siblings(path))
            cure = near if near.startswith("Did") else "Paths are relative to the policy file."
            self._report.add(node, f"must be a file that exists, got {node.text!r}", cure)
            return None
        if not (path.is_file() or (folder_too and path.is_dir())):
            self._report.add(node, f"must be a file, got the folder {node.text!r}", "Name a file.")
            return None
        try:
            if path.is_file():
                path.open("rb").close()
        except OSError as error:
            rule = f"must be a readable file, got {error.strerror!r} for {node.text!r}"
            self._report.add(node, rule, "Change its permissions.")
            return None
        return path

    @staticmethod
    def _siblings(path: Path) -> list[str]:
        try:
            return [entry.name for entry in path.parent.iterdir()]
        except OSError:
            return []

    def check_kept(self, node: Node | None) -> Path | None:
        """Return the path that *node* names, which may not exist yet; None if it is outside."""
        if node is None or not node.text or self._report.knows(node):
            return None
        path = inside(self._folder, node.text)
        if path is None:
            rule = f"must be a relative path inside the policy's folder, got {node.text!r}"
            self._report.add(node, rule, "Put it beside the policy, with / between folders.")
        return path

    def check_url(self, node: Node | None) -> None:
        """A SQLite file lies in the policy's folder; other URLs are not paths."""
        if node is None or node.text is None:
            return
        match = _SQLITE.fullmatch(node.text.split("?")[0])
        if match is None or match["path"] in ("", ":memory:"):
            return
        if match["path"].startswith("file:") or inside(self._folder, match["path"]) is None:
            rule = f"must keep its file inside the policy's folder, got {node.text!r}"
            self._report.add(node, rule, "For example: sqlite:///state/NAME.db")

    def check_source(self, node: Node | None) -> None:
        """A model's source is a file or folder beside the policy, or has a known scheme."""
        if node is None or not node.text:
            return
        scheme = _SCHEME.match(node.text)
        if scheme is not None and not (self._folder / node.text).exists():
            if scheme[1] not in SCHEMES:
                rule = f"must be a path, or start with {', '.join(f'{s}:' for s in SCHEMES)}"
                cure = nearest(scheme[1], SCHEMES)
                self._report.add(node, f"{rule}, got {node.text!r}", cure)
            elif scheme[1] == "torch":
                self.check_function(node, node.text.removeprefix("torch:"))
            return
        path = self.existing(node, folder_too=True)
        if path is not None and path.suffix == ".xml" and not path.with_suffix(".bin").exists():
            rule = f"must have its weights beside it, got no {path.with_suffix('.bin').name}"
            self._report.add(node, rule, "Copy both files of the OpenVINO model.")

    def check_step(self, step: Node) -> None:
        """The functions and files of a step exist."""
        for key in ("python", "checker", "combine"):
            node = step.get(key)
            if node is not None and node.text is not None and node.text not in COMBINES:
                self.check_function(node, node.text)
        for key in ("script", "dockerfile"):
            self.existing(step.get(key))
        requirements = step.get("requirements")
        if requirements is not None and requirements.text is not None:
            self.existing(requirements)

    def check_function(self, node: Node, text: str) -> None:
        """``module:function`` is defined beside the policy, or its module is installed."""
        module, colon, function = text.partition(":")
        if not colon or not all(part.isidentifier() for part in (*module.split("."), function)):
            return  # a fault of the schema
        try:
            find_function(self._folder, module, function)
        except FunctionFault as fault:
            self._report.add(node, f"{fault.rule}, got {node.text!r}", fault.cure)

    def check_data(self, data: Node | None, *arrays: Node | None) -> None:
        """A data file exists and holds the arrays or columns that are named."""
        path = self.existing(data)
        if path is None or data is None:
            return
        try:
            known = array_names(path)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            rule = f"must be an .npz or .csv file that can be read, got {data.text!r}: {error}"
            self._report.add(data, rule, "Write it with numpy.savez, or as CSV with a header.")
            return
        for node in (name for names in arrays if names is not None for name in names.texts()):
            if node.text not in known:
                what = "an array" if path.suffix == ".npz" else "a column"
                rule = f"must name {what} of {data.text}, got {node.text!r}"
                self._report.add(node, rule, nearest(str(node.text), known))


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays in an ``.npz``, or of the columns of a ``.csv``.

    Raises:
        ValueError: It has another suffix or no header.
        OSError: It can't be read.
        zipfile.BadZipFile: It is no ``.npz``.
    """
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    if path.suffix != ".csv":
        raise ValueError(f"its suffix is {path.suffix or 'missing'}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next(csv.reader([file.readline(1 << 16)]), None)
    if not header:
        raise ValueError("it has no header")
    return [name.strip() for name in header]
