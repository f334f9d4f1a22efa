"""What a conversion step is given, and how it is called."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Tensors

# Instructions that multiply int8 and add up in int32. Without them x86 adds pairs of products
# in int16, which saturates: NNCF's OverflowFix and ONNX Runtime's reduce_range keep one bit free.
VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose.

    Attributes:
        samples: Calibration rows to use at most. NNCF's default: more change little.
        ignored: Names of nodes that stay as they are.
        batch: Rows a calibration run, where the model leaves the batch open.
    """

    samples: int = 300
    ignored: tuple[str, ...] = ()
    batch: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; it is part of an artifact's key."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Options:
        """Return the options whose JSON form is *value*."""
        return cls(**{**value, "ignored": tuple(value["ignored"])})


@dataclass(frozen=True, slots=True)
class Context:
    """What a step may know besides its source.

    Attributes:
        rows: Calibration rows by input name, shape (rows, …); None where there are none.
        features: ISA features of the processor that is to run the result.
    """

    rows: Tensors | None = None
    features: frozenset[str] = frozenset()
    options: Options = Options()

    @property
    def saturates(self) -> bool:
        """Return whether int8 products may overflow on the processor that is to run the result."""
        x86 = bool(self.features & {"avx", "avx2", "fma", "avx512f"}) or not self.features
        return x86 and not self.features & set(VNNI)

    def batches(self, names: Collection[str], size: int | None) -> Iterator[Tensors]:
        """Return rows of the inputs *names* in full batches of *size*, over again at the end.

        They are spread over all rows, because a file may be sorted by class.

        Args:
            size: What the model insists on; None: `Options.batch`.

        Raises:
            ArtifactError: There are no rows, or none of an input.
        """
        rows = self.rows or {}
        if not names or any(len(rows.get(name, ())) == 0 for name in names):
            wanted = ", ".join(sorted(names)) or "an input"
            got = ", ".join(f"{len(rows[name])} of {name}" for name in sorted(rows)) or "none"
            raise ArtifactError(f"Calibration rows must hold {wanted}, got {got}.")
        size = size or self.options.batch
        available = min(len(rows[name]) for name in names)
        count = min(self.options.samples, available)
        spread = np.linspace(0, available - 1, count).round().astype(int)
        for start in range(0, count, size):
            taken = spread[np.arange(start, start + size) % count]
            yield {name: np.ascontiguousarray(rows[name][taken]) for name in names}


class Convert(Protocol):
    """The function of a step."""

    def __call__(self, source: Path, folder: Path, context: Context) -> Path:
        """Write the converted model into *folder*, and return its file.

        Raises:
            ArtifactError: The source is malformed, or has what the converter can't convert.
        """
        ...
