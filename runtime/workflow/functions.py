"""Python steps: ``module:function`` found, its parameters bound, its result held to the rules.

A module is sought beside the policy, under a package name private to the policy, so that it
neither shadows nor is shadowed by what is installed; there, other modules beside it are imported
relatively (``from . import lookup``). What is not beside the policy is imported as installed.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.tensors import Array, Tensors, TensorSpec
from scanflow_serve.runtime.workflow.graph import Call

_PACKAGE = "_scanflow_policy_"


@dataclass(frozen=True, slots=True)
class Function:
    """A user's function with its params bound.

    Attributes:
        where: The step, such as ``workflows.C1.steps[0]``.
        spec: ``module:function``, as the policy says it.
        call: Takes the tensors: by name, or by position if `positional`.
        tensors: Names of its tensor parameters, in order.
        positional: The parameters can't be given by name.
    """

    where: str
    spec: str
    call: Callable[..., Any]
    tensors: tuple[str, ...]
    positional: bool
    file: str

    @property
    def name(self) -> str:
        """Return the function's own name, which an array that it returns takes."""
        return self.spec.partition(":")[2]

    def __call__(self, arrays: Sequence[Array]) -> Any:
        """Return what the function returns for *arrays*, in the order of `tensors`.

        The function sees read-only views: what it changed in place, others would see too.

        Raises:
            WorkflowError: It raised; says where and what.
        """
        views = [_read_only(array) for array in arrays]
        try:
            if self.positional:
                return self.call(*views)
            return self.call(**dict(zip(self.tensors, views, strict=True)))
        except Exception as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> WorkflowError:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename == self.file]
        at = (own or frames)[-1]
        return WorkflowError(
            f"{self.where}: {self.spec} failed at {at.filename}:{at.lineno}: "
            f"{type(error).__name__}: {error}. Correct the function, its params or its input."
        )


def step_function(call: Call, policy_file: PolicyFile) -> Function:
    """Return the function of a ``python:`` step, the step's params bound.

    Parameters that the step's ``params`` name are bound to them; of the others, those without a
    default that can be given by position take tensors.

    Raises:
        WorkflowError: Module or function is missing, or params don't fit its signature.
    """
    function, file = _find(call.path, call.function, policy_file)
    parameters = _parameters(call.path, call.function, function)
    names = {parameter.name for parameter in parameters}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    shown = f"{call.function}{inspect.signature(function)}"
    if unknown := [] if takes_any else sorted(set(call.params) - names):
        raise WorkflowError(
            f"{call.path}.params: every param must be a parameter of {shown}, got {unknown}. "
            f"Rename or remove it."
        )
    open_ones = [
        p
        for p in parameters
        if p.name not in call.params
        and p.default is p.empty
        and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if missing := [p.name for p in open_ones if p.kind is p.KEYWORD_ONLY]:
        raise WorkflowError(
            f"{call.path}.params: must give every keyword-only parameter of {shown}, got none "
            f"for {missing}. Add it under `params:`."
        )
    if not open_ones:
        raise WorkflowError(
            f"{call.path}: {shown} must have a parameter that takes a tensor, got params for all. "
            f"Give it a positional parameter without default, named as its input."
        )
    positional = any(p.kind is p.POSITIONAL_ONLY for p in open_ones)
    tensors = tuple(p.name for p in open_ones)
    bound = partial(function, **call.params) if call.params else function
    return Function(call.path, call.function, bound, tensors, positional, file)


def combine_function(where: str, spec: str, branches: int, policy_file: PolicyFile) -> Function:
    """Return the function of ``combine: module:function``: one array a branch, by position.

    Raises:
        WorkflowError: Module or function is missing, or does not take as many arrays.
    """
    function, file = _find(where, spec, policy_file)
    _parameters(where, spec, function)
    signature = inspect.signature(function)
    names = tuple(f"branch {i}" for i in range(branches))
    try:
        signature.bind(*names)
    except TypeError:
        raise WorkflowError(
            f"{where}: {spec}{signature} must take one array for each of {branches} branches, by "
            f"position. Write `def {spec.partition(':')[2]}(*outputs)`."
        ) from None
    return Function(where, spec, function, names, True, file)


def as_tensors(function: Function, result: Any, rows: int) -> Tensors:
    """Return *result* by name: an array under the function's name, a dict as it is.

    Raises:
        WorkflowError: It is neither, or an array does not have *rows* rows.
    """
    tensors = result if isinstance(result, dict) else {function.name: result}
    if not tensors:
        raise _wrong_result(function, "an empty dict")
    for name, array in tensors.items():
        if not isinstance(array, np.ndarray) or not isinstance(name, str):
            got = (
                f"{type(array).__name__} under {name!r}"
                if tensors is result
                else type(result).__name__
            )
            raise _wrong_result(function, got)
        if array.ndim == 0 or array.shape[0] != rows:
            raise WorkflowError(
                f"{function.where}: {function.spec} must return as many rows as it takes, "
                f"got {name!r} of shape {list(array.shape)} for {rows} rows. Keep the first axis."
            )
    return tensors


def hold(function: Function, tensors: Tensors, specs: Sequence[TensorSpec]) -> Tensors:
    """Return *tensors* as they were when the workflow was built: same names, same dtypes.

    Raises:
        WorkflowError: Names differ, or a dtype can't be cast within its kind.
    """
    for spec in specs:
        array = tensors.get(spec.name)
        if array is not None and array.dtype == spec.numpy_dtype and len(tensors) == len(specs):
            continue
        if array is None or len(tensors) != len(specs):
            raise _changed(function, sorted(tensors), sorted(spec.name for spec in specs))
        if not np.can_cast(array.dtype, spec.numpy_dtype, "same_kind"):
            raise _changed(function, f"{spec.name}: {array.dtype.name}", spec.dtype)
        tensors = {**tensors, spec.name: array.astype(spec.numpy_dtype)}
    return tensors


def _changed(function: Function, got: object, wanted: object) -> WorkflowError:
    return WorkflowError(
        f"{function.where}: {function.spec} must return what it returned for the validation row, "
        f"{wanted}, got {got}. Return the same names and dtypes for every input."
    )


def _wrong_result(function: Function, got: str) -> WorkflowError:
    return WorkflowError(
        f"{function.where}: {function.spec} must return an array, or a dict of arrays by name, "
        f"got {got}. Return numpy arrays."
    )


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _parameters(where: str, spec: str, function: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        raise WorkflowError(
            f"{where}: {spec} must be a function with a signature, got "
            f"{type(function).__name__}. Wrap it in a function beside the policy."
        ) from None


def _find(where: str, spec: str, policy_file: PolicyFile) -> tuple[Any, str]:
    """Return the function and the file of its code."""
    module_name, _, function_name = spec.partition(":")
    beside = _beside(module_name, policy_file)
    module = _imported(where, spec, beside or module_name, policy_file)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise WorkflowError(
            f"{where}: {module.__file__ or module_name} must define the function "
            f"{function_name!r}, got {'none' if function is None else type(function).__name__}. "
            f"Define it, or correct the name."
        )
    code = getattr(inspect.unwrap(function), "__code__", None)
    return function, code.co_filename if code else ""


def _beside(module_name: str, policy_file: PolicyFile) -> str | None:
    """Return the private name of a module beside the policy, None if there is no such file."""
    relative = module_name.replace(".", "/")
    for file in (f"{relative}.py", f"{relative}/__init__.py"):
        if (policy_file.folder / file).is_file():
            path = policy_file.resolve(file)
            return f"{_package(policy_file, path.read_bytes())}.{module_name}"
    return None


def _package(policy_file: PolicyFile, source: bytes) -> str:
    """Return the name of the package whose modules are those beside the policy.

    The step's source is part of the name: a policy that is reloaded after an edit gets the new
    code, while pipelines built before keep theirs.
    """
    folder = policy_file.folder.resolve()
    name = _PACKAGE + hashlib.sha256(str(folder).encode() + b"\0" + source).hexdigest()[:16]
    if name not in sys.modules:
        package = ModuleType(name, f"Modules beside {policy_file.path}.")
        package.__path__ = [str(folder)]
        importlib.invalidate_caches()
        sys.modules.setdefault(name, package)
    return name


def _imported(where: str, spec: str, module_name: str, policy_file: PolicyFile) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        raise _import_failure(where, spec, module_name, policy_file, error) from error


def _import_failure(
    where: str, spec: str, module_name: str, policy_file: PolicyFile, error: Exception
) -> WorkflowError:
    wanted = spec.partition(":")[0]
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and (wanted == missing or wanted.startswith(f"{missing}.")):
        return WorkflowError(
            f"{where}: the module of {spec!r} must lie beside the policy or be installed, got no "
            f"{wanted.replace('.', '/')}.py in {policy_file.folder}. Add it, or install it."
        )
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    at = f" at {frames[-1].filename}:{frames[-1].lineno}" if len(frames) > 1 else ""
    cure = "Correct the module."
    if missing and _beside(missing, policy_file):
        cure = f"Write `from . import {missing}`: modules beside the policy import one another so."
    return WorkflowError(
        f"{where}: {spec!r} can't be imported{at}: {type(error).__name__}: {error}. {cure}"
    )
