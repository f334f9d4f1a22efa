"""Which inputs are images, and what the rows of a reference look like as such."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from scanflow_serve.runtime.tensors import TensorSpec

Layout: TypeAlias = Literal["NCHW", "NHWC", "NHW", "flat"]
_CHANNELS = frozenset({1, 3, 4})


@dataclass(frozen=True, slots=True)
class ImageShape:
    """How the values of a row are a picture.

    Attributes:
        height: In pixels; None where the model leaves it open.
    """

    layout: Layout
    height: int | None
    width: int | None
    channels: int

    def size(self, row_shape: tuple[int, ...]) -> tuple[int, int]:
        """Return height and width of a row of *row_shape*."""
        if self.layout == "NCHW":
            return row_shape[1], row_shape[2]
        if self.layout == "flat":
            return self.height or 1, self.width or 1
        return row_shape[0], row_shape[1]


def image_shape(spec: TensorSpec, told: ImageShape | None = None) -> ImageShape | None:
    """Return how rows of *spec* are pictures, None if they are not.

    Args:
        told: What the policy's ``serve.image`` says of this input: only that tells a flat row, or
            one without channels, from features or a series.
    """
    if spec.numpy_dtype.kind not in "fiu":
        return None
    if told is not None:
        return told
    shape = spec.shape[1:]
    if len(shape) != 3:
        return None
    if shape[0] in _CHANNELS and shape[2] not in _CHANNELS:
        return ImageShape("NCHW", shape[1], shape[2], shape[0] or 1)
    if shape[2] in _CHANNELS:
        return ImageShape("NHWC", shape[0], shape[1], shape[2] or 1)
    return None
