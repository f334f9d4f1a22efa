"""PNG and JPEG bodies to the model's input, as the policy's ``serve.image`` says and no further."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.policies.schema import Image
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec

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


def image_input(
    body: bytes, media_type: str, policy: Image | None, signature: Signature
) -> dict[str, Array]:
    """Return the model's input for one image, of shape (1, …).

    Raises:
        RequestError: 400, not an image of that type; 413, too many pixels; 415, the policy has
            no ``serve.image``; 422, an image that does not fit, with what would.
    """
    if policy is None:
        raise RequestError(415, UNSET)
    spec = _target(policy, signature)
    pixels = _pixels(_decoded(body, FORMATS[media_type], policy), policy)
    return {spec.name: _shaped(pixels, policy, spec)}


def _target(policy: Image, signature: Signature) -> TensorSpec:
    names = [spec.name for spec in signature.inputs]
    wanted = policy.input if policy.input is not None else names[0]
    if wanted not in names or len(names) != 1:
        raise RequestError(
            422,
            f"serve.image needs a model with one input, {wanted!r}; this one has {names}."
            " Send JSON with all inputs.",
        )
    return signature.inputs[0]


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
    channels = values.shape[2]
    if policy.mean is not None:
        values = values - _per_channel(policy.mean, channels, "mean")
    if policy.std is not None:
        values = values / _per_channel(policy.std, channels, "std")
    return values


def _per_channel(given: list[float], channels: int, key: str) -> Array:
    if len(given) not in (1, channels):
        raise RequestError(
            422, f"serve.image.{key} must have 1 or {channels} values, got {len(given)}."
        )
    return np.asarray(given, dtype=np.float32)


def _shaped(pixels: Array, policy: Image, spec: TensorSpec) -> Array:
    if policy.layout == "NCHW":
        value = pixels.transpose(2, 0, 1)[None]
    elif policy.layout == "NHWC":
        value = pixels[None]
    elif policy.layout == "NHW":
        value = pixels[None, :, :, 0] if pixels.shape[2] == 1 else pixels[None]
    else:
        value = pixels.reshape(1, -1)
    fits = len(spec.shape) == value.ndim and all(
        n is None or n == m for n, m in zip(spec.shape[1:], value.shape[1:], strict=True)
    )
    if not fits:
        shape = [-1 if n is None else n for n in (None, *spec.shape[1:])]
        raise RequestError(
            422,
            f"serve.image must give input {spec.name!r} its shape {shape}, got"
            f" {list(value.shape)} ({math.prod(value.shape)} values). Change its mode, width,"
            " height or layout.",
        )
    return np.ascontiguousarray(_cast(value, spec))


def _cast(value: Array, spec: TensorSpec) -> Array:
    target: np.dtype[Any] = spec.numpy_dtype
    if target.kind == "f":
        return value.astype(target)
    if target.kind not in "iu":
        raise RequestError(
            422, f"An image gives numbers, input {spec.name!r} takes {spec.dtype}. Send JSON."
        )
    info = np.iinfo(target)
    rounded = np.rint(value.astype(np.float64))
    if rounded.min() < info.min or rounded.max() > info.max:
        raise RequestError(
            422,
            f"serve.image must give {spec.dtype} values, {info.min} to {info.max}, got"
            f" {rounded.min():g} to {rounded.max():g}. Change its scale or offset.",
        )
    return rounded.astype(target)
