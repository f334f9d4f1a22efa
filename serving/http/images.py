"""PNG and JPEG bodies to the model's input, as the policy's ``serve.image`` says and no further."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from scanflow_serve.policies.errors import RequestError, UsageError
from scanflow_serve.policies.schema import Image
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec
from scanflow_serve.serving.http.arrays import shape_text

FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG"}
# Decoded, 4 bytes a pixel at most, this is 200 MB: what a body of some KB may claim.
MOST_PIXELS = 50_000_000
# Modes that become L or RGB without a guess. Alpha needs a background, 16 bits a range.
CONVERTIBLE = frozenset({"1", "L", "P", "RGB", "YCbCr", "CMYK"})
RESAMPLING = {
    "nearest": Pillow.Resampling.NEAREST,
    "bilinear": Pillow.Resampling.BILINEAR,
    "bicubic": Pillow.Resampling.BICUBIC,
}
UNSET = (
    "An image body needs the policy's serve.image, which is not set. Add for example"
    " serve: {image: {mode: L, width: 8, height: 8, resize: bilinear, layout: flat}},"
    " or send JSON or application/x-npy."
)


class ImageReader:
    """Turns image bodies into the only input of one signature.

    Raises:
        UsageError: They can't become that input, whatever the image; names the policy's key.
    """

    def __init__(self, policy: Image, signature: Signature) -> None:
        self._policy = policy
        self._spec = _target(policy, signature)
        shape = _row_shape(policy)
        if len(self._spec.shape) != len(shape) + 1 or any(
            n is not None and n != m for n, m in zip(self._spec.shape[1:], shape, strict=True)
        ):
            wanted = shape_text(self._spec.shape[1:])
            raise UsageError(
                f"serve.image: must give a row of input {self._spec.name!r} its shape {wanted}, got"
                f" {shape_text(shape)} ({policy.layout}, {math.prod(shape)} values). Change its"
                " mode, width, height or layout."
            )

    def read(self, body: bytes, media_type: str) -> Tensors:
        """Return the model's input for one image, of shape (1, …).

        Raises:
            RequestError: 400, not an image of that type; 413, too many pixels; 422, an image that
                does not fit, with what would.
        """
        pixels = _pixels(_decoded(body, FORMATS[media_type], self._policy), self._policy)
        value = _laid_out(pixels, self._policy.layout)
        return {self._spec.name: np.ascontiguousarray(_cast(value, self._spec))}


def _target(policy: Image, signature: Signature) -> TensorSpec:
    names = [spec.name for spec in signature.inputs]
    if len(names) != 1:
        raise UsageError(
            f"serve.image: must serve a model with one input, got {names}. Leave it out, and send"
            " JSON with all inputs."
        )
    if policy.input not in (None, names[0]):
        raise UsageError(
            f"serve.image.input: must be {names[0]!r}, the only input, got {policy.input!r}."
            " Change it or leave it out."
        )
    spec = signature.inputs[0]
    if spec.numpy_dtype.kind not in "fiu":
        raise UsageError(
            f"serve.image: must feed an input of numbers, got {spec.name!r} of {spec.dtype}."
            " Leave it out, and send JSON."
        )
    return spec


def _row_shape(policy: Image) -> tuple[int, ...]:
    height, width, channels = policy.height, policy.width, 1 if policy.mode == "L" else 3
    if policy.layout == "NHW" and channels != 1:
        raise UsageError(
            f"serve.image.layout: must be NCHW, NHWC or flat for mode {policy.mode}, got NHW, which"
            " has no place for channels."
        )
    shapes: dict[str, tuple[int, ...]] = {
        "NCHW": (channels, height, width),
        "NHWC": (height, width, channels),
        "NHW": (height, width),
        "flat": (height * width * channels,),
    }
    return shapes[policy.layout]


def _decoded(body: bytes, kind: str, policy: Image) -> Pillow.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # our bound is lower
            image = Pillow.open(io.BytesIO(body), formats=(kind,))
            if image.width * image.height > MOST_PIXELS:
                raise RequestError(
                    413,
                    f"image must have <= {MOST_PIXELS} pixels, got {image.width} x {image.height}.",
                )
            _fits(image, policy)
            image.load()
    except RequestError:
        raise
    except Pillow.DecompressionBombError:
        raise RequestError(413, f"image must have <= {MOST_PIXELS} pixels, got more.") from None
    except UnidentifiedImageError:
        raise RequestError(400, f"body must be a {kind} image, as its Content-Type says.") from None
    except Exception as error:  # Pillow's plugins raise whatever a broken file makes them raise
        raise RequestError(400, f"body must be a whole {kind} image: {error}.") from None
    return image


def _fits(image: Pillow.Image, policy: Image) -> None:
    size = (policy.width, policy.height)
    if policy.resize == "none" and image.size != size:
        raise RequestError(
            422,
            f"image must be {size[0]} x {size[1]} pixels, got {image.width} x {image.height}."
            " Send that size, or set serve.image.resize to nearest, bilinear or bicubic.",
        )
    if image.mode not in CONVERTIBLE or "transparency" in image.info:
        raise RequestError(
            422,
            f"image must be {policy.mode} or convert to it without a guess, got mode"
            f" {image.mode}{' with transparency' if 'transparency' in image.info else ''}."
            " Send 8 bits a channel and no alpha: grey, RGB or palette.",
        )


def _pixels(image: Pillow.Image, policy: Image) -> Array:
    """Return values of shape (height, width, channels), scaled as the policy says."""
    if image.mode != policy.mode:
        image = image.convert(policy.mode)
    if policy.resize != "none" and image.size != (policy.width, policy.height):
        image = image.resize((policy.width, policy.height), RESAMPLING[policy.resize])
    values: Array = np.asarray(image, dtype=np.float32).reshape(policy.height, policy.width, -1)
    if policy.invert:
        values = 255.0 - values
    values = values * np.float32(policy.scale) + np.float32(policy.offset)
    if policy.mean is not None:
        values = values - np.asarray(policy.mean, dtype=np.float32)
    if policy.std is not None:
        values = values / np.asarray(policy.std, dtype=np.float32)
    return values


def _laid_out(pixels: Array, layout: str) -> Array:
    if layout == "NCHW":
        return pixels.transpose(2, 0, 1)[None]
    if layout == "NHWC":
        return pixels[None]
    if layout == "NHW":
        return pixels[None, :, :, 0]
    return pixels.reshape(1, -1)


def _cast(value: Array, spec: TensorSpec) -> Array:
    target: np.dtype[Any] = spec.numpy_dtype
    if target.kind == "f":
        return value.astype(target)
    info = np.iinfo(target)
    rounded = np.rint(value.astype(np.float64))
    if rounded.min() < info.min or rounded.max() > info.max:
        raise RequestError(
            422,
            f"serve.image must give {spec.dtype} values, {info.min} to {info.max}, got"
            f" {rounded.min():g} to {rounded.max():g}. Change its scale or offset.",
        )
    return rounded.astype(target)
