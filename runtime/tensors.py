"""What a model's inputs and outputs are: names, dtypes, shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Tensors: TypeAlias = dict[str, Array]
OutputKind: TypeAlias = Literal["logits", "probabilities", "score", "label", "other"]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: As the model names it.
        dtype: numpy's name, such as ``float32``, ``int64``; ``str`` for text.
        shape: ``None`` where a dimension is dynamic; the first dimension is the batch.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Return the dtype that numpy uses; text is ``object``."""
        return np.dtype(object) if self.dtype == "str" else np.dtype(self.dtype)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; dynamic dimensions are -1, as in OIP v2."""
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": [-1 if n is None else n for n in self.shape],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TensorSpec:
        """Return the spec whose JSON form is *value*."""
        shape = tuple(None if n < 0 else int(n) for n in value["shape"])
        return cls(name=value["name"], dtype=value["dtype"], shape=shape)


@dataclass(frozen=True, slots=True)
class Signature:
    """A model's or a workflow's inputs and outputs, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def fixed_batch(self) -> int | None:
        """Return the batch size that the model insists on, or None if it takes any."""
        sizes = {spec.shape[0] for spec in self.inputs if spec.shape}
        return next(iter(sizes)) if len(sizes) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [spec.to_json() for spec in self.outputs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Signature:
        """Return the signature whose JSON form is *value*."""
        return cls(
            inputs=tuple(TensorSpec.from_json(spec) for spec in value["inputs"]),
            outputs=tuple(TensorSpec.from_json(spec) for spec in value["outputs"]),
        )
