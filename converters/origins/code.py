"""A person's Python modules: which files a module consists of, and its functions in a child.

Only in a child process are they imported; before, they are parsed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.policies.functions import module_file

PACKAGE = "_scanflow_origin"


def module_files(folder: Path, module: str) -> tuple[Path, ...]:
    """Return the files in *folder* that *module* consists of: its own, and those it imports.

    Empty for an installed module: its distribution's version says what it is.
    """
    found: dict[Path, None] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = module_file(folder, name)
        if path is not None and path not in found:
            found[path] = None
            waiting += _imports(path, name)
    return tuple(sorted(found))


def distribution_version(module: str) -> dict[str, str]:
    """Return name and version of the distribution that *module* is installed by, if any."""
    names = metadata.packages_distributions().get(module.partition(".")[0], [])
    return {name: metadata.version(name) for name in names[:1]}


def load_function(where: str, spec: str, folder: Path) -> Callable[[], Any]:
    """Return ``module:function``: beside the policy, else installed.

    Raises:
        ArtifactError: The module fails as it is imported, or lacks the function.
    """
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(_importable(folder, module_name))
    except Exception as error:  # whatever a person's module raises
        raise ArtifactError(
            f"{where}: module {module_name!r} must be importable, got {type(error).__name__}: "
            f"{error}. Correct it, or install what it needs."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        got = "nothing" if function is None else f"a {type(function).__name__}"
        raise ArtifactError(f"{where}: {spec} must be a function or a class, got {got}.")
    return function  # type: ignore[no-any-return]  # callable: just tested


def _importable(folder: Path, module: str) -> str:
    if module_file(folder, module) is None:
        return module
    if PACKAGE not in sys.modules:
        package = ModuleType(PACKAGE)
        package.__path__ = [str(folder)]
        sys.modules[PACKAGE] = package
    return f"{PACKAGE}.{module}"


def _imports(path: Path, module: str) -> Iterator[str]:
    """Yield the modules that *path* may import from beside the policy."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # importing it will say so
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if package else []
            kept = parts[: len(parts) - (node.level - 1)] if node.level else []
            base = ".".join([*kept, *([node.module] if node.module else [])])
            if base:
                yield base
            yield from (f"{base}.{alias.name}".lstrip(".") for alias in node.names)
