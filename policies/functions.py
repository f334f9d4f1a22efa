"""``module:function`` of a policy: found and parsed, never imported."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

from scanflow_serve.policies.translation import nearest

_MAX_BYTES = 4 << 20  # of a module; a larger file is not source that a person wrote


class FunctionFault(ValueError):
    """A function can't be found, or its module can't be parsed."""

    def __init__(self, rule: str, cure: str) -> None:
        self.rule = rule
        self.cure = cure
        super().__init__(f"{rule}. {cure}")


def module_file(folder: Path, module: str) -> Path | None:
    """Return the file of *module* beside the policy, or None if there is none.

    Args:
        folder: Absolute, symlinks resolved; a file outside of it is not found.
    """
    stem = folder.joinpath(*module.split("."))
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if path.is_file() and path.resolve().is_relative_to(folder):
            return path
    return None


def find_function(folder: Path, module: str, function: str) -> None:
    """Raise what is wrong with ``module:function``: beside the policy, else installed.

    Raises:
        FunctionFault: No such module, no such function in it, or it is not Python.
    """
    path = module_file(folder, module)
    if path is None:
        if not _installed(module):
            name = f"{module.replace('.', '/')}.py"
            raise FunctionFault(
                "must name a module beside the policy or an installed one",
                f"Write {name} beside the policy, or install its package.",
            )
        return
    names = _defined(path)
    if "*" not in names and function not in names:
        raise FunctionFault(f"must name a function of {path.name}", nearest(function, names))


def _installed(module: str) -> bool:
    """Return whether *module* could be imported, without importing its parents."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
        name = top
        for part in rest:
            if spec is None:
                return False
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, spec.submodule_search_locations or [])
    except (ImportError, ValueError):  # ValueError: a module that was made by hand
        return False
    return spec is not None


def _defined(path: Path) -> set[str]:
    """Return the names that a module's top level binds; "*" if it imports everything."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise FunctionFault(f"must be in a module of at most {_MAX_BYTES} bytes", "Split it.")
        tree = ast.parse(path.read_bytes(), filename=path.name)
    except OSError as error:
        rule = f"must be in a readable module ({path.name}: {error.strerror})"
        raise FunctionFault(rule, "Change its permissions.") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path.name}:{line}" if line else path.name
        what = getattr(error, "msg", None) or str(error)
        raise FunctionFault(f"must be in a Python file ({where}: {what})", "Correct it.") from None
    return set(_bound(tree.body))


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in statement.names)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            for inner in ("body", "orelse", "finalbody"):
                yield from _bound(getattr(statement, inner, []))
            for handler in getattr(statement, "handlers", []):
                yield from _bound(handler.body)
