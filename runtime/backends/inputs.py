"""Checks inputs against a signature before a backend sees them, in about a microsecond.

Backends differ in what they let through: OpenVINO casts a float64 array silently and runs a
shape that the model does not take. What the signature says must hold on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from scanflow_serve.policies.errors import InputError
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec


class InputCheck:
    """The compiled check of one signature."""

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.inputs
        self._rows = tuple(
            (
                spec.name,
                spec.numpy_dtype,
                len(spec.shape),
                tuple((axis, n) for axis, n in enumerate(spec.shape) if n is not None),
            )
            for spec in signature.inputs
        )

    def __call__(self, inputs: Mapping[str, Array]) -> None:
        """Return if *inputs* fit.

        Raises:
            InputError: A name is missing or unknown, or a dtype or shape does not fit.
        """
        if len(inputs) != len(self._rows):
            raise self._name_error(inputs)
        for name, dtype, rank, dims in self._rows:
            array = inputs.get(name)
            if (
                not isinstance(array, np.ndarray)
                or (array.dtype != dtype and not (dtype.kind == "O" and array.dtype.kind == "U"))
                or array.ndim != rank
            ):
                raise self._error(inputs, name)
            for axis, n in dims:
                if array.shape[axis] != n:
                    raise self._error(inputs, name)

    def _name_error(self, inputs: Mapping[str, Array]) -> InputError:
        wanted = {spec.name for spec in self._specs}
        takes = f"The model takes {', '.join(map(describe, self._specs))}."
        if missing := sorted(wanted - inputs.keys()):
            return InputError(f"Input {missing[0]!r}: must be given, got {sorted(inputs)}. {takes}")
        unknown = sorted(inputs.keys() - wanted)
        return InputError(f"Input {unknown[0]!r}: must be an input of the model. {takes}")

    def _error(self, inputs: Mapping[str, Array], name: str) -> InputError:
        spec = next(spec for spec in self._specs if spec.name == name)
        if name not in inputs:
            return self._name_error(inputs)
        array = inputs[name]
        got = (
            f"{array.dtype} {list(array.shape)}"
            if isinstance(array, np.ndarray)
            else f"a {type(array).__name__}"
        )
        return InputError(f"Input {name!r}: must be {describe(spec, name=False)}, got {got}.")


def describe(spec: TensorSpec, *, name: bool = True) -> str:
    """Return *spec* for people.

    >>> describe(TensorSpec("pixels", "float32", (None, 64)))
    "'pixels' float32 [any, 64]"
    """
    dims = ", ".join("any" if n is None else str(n) for n in spec.shape)
    return f"{f'{spec.name!r} ' if name else ''}{spec.dtype} [{dims}]"
