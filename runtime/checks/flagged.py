"""The latest rows that a check flagged, small enough to keep: for people to look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from scanflow_serve.policies.schema import Policy
from scanflow_serve.runtime.checks.images import ImageShape, image_shape
from scanflow_serve.runtime.checks.inspection import Finding, shown
from scanflow_serve.runtime.checks.protocol import Verdicts
from scanflow_serve.runtime.checks.rows import Observed
from scanflow_serve.runtime.prediction_ids import prediction_ids
from scanflow_serve.runtime.tensors import Array, Signature, Tensors

MOST_ROWS = 12  # of one check; with images of 64 by 64 pixels in colour they are 150 KB
MOST_PIXELS = 64  # of a side; larger images are thinned
MOST_VALUES = 64  # of an input that is no image
MOST_TEXT = 200  # characters of a value
EVERY_S = 0.1  # at most one row that broke a rule so often: these are kept on the request path


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a screen shows it.

    Attributes:
        channels: 1 (grey) or 3 (red, green, blue).
        pixels: Row by row, the channels of a pixel together; the image's least value is 0, its
            largest 255.
    """

    height: int
    width: int
    channels: int
    pixels: bytes


@dataclass(frozen=True, slots=True)
class ShownInput:
    """One input of a row.

    Attributes:
        values: The first of them, numbers or text; none where there is a picture.
        total: How many the row has.
    """

    name: str
    total: int
    values: tuple[Any, ...] = ()
    picture: Picture | None = None


@dataclass(frozen=True, slots=True)
class FlaggedRow:
    """One row out of the ordinary.

    Attributes:
        id: Of its prediction; one of its own where its request was refused.
        at: Unix time of its answer, in s.
        variant: What answered; "" where nothing did.
        predicted: Class index that it was answered with; None where there are no classes.
        p_val: None where the check gives none.
        why: The rule that it broke; "" where its p-value says all.
        refused: It was not answered.
    """

    id: str
    at: float
    variant: str
    predicted: int | None
    p_val: float | None
    inputs: tuple[ShownInput, ...]
    why: str = ""
    refused: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form: pixels as whole numbers."""
        told = asdict(self)
        for each in told["inputs"]:
            if each["picture"] is not None:
                each["picture"]["pixels"] = list(each["picture"]["pixels"])
        return told


def image_inputs(policy: Policy, signature: Signature) -> dict[str, ImageShape]:
    """Return which inputs are images, by the policy's ``serve.image`` or by their shape."""
    told: dict[str, ImageShape] = {}
    image = policy.serve.image
    if image is not None:
        channels = 1 if image.mode == "L" else 3
        shape = ImageShape(image.layout, image.height, image.width, channels)
        told[image.input or signature.inputs[0].name] = shape
    found = {spec.name: image_shape(spec, told.get(spec.name)) for spec in signature.inputs}
    return {name: shape for name, shape in found.items() if shape is not None}


class FlaggedRows:
    """The latest rows that one check flagged; one thread notes them, any may read.

    Args:
        images: Which inputs are images.
        clock: Unix time, in s.
    """

    def __init__(
        self,
        images: Mapping[str, ImageShape] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._images = dict(images or {})
        self._clock = clock
        self._judged = -np.inf
        self._latest: tuple[FlaggedRow, ...] = ()

    def note(self, rows: Observed, verdicts: Verdicts | None) -> None:
        """Keep the last of those *rows* that are flagged."""
        if verdicts is None or not verdicts.flagged.any():
            return
        places = np.flatnonzero(verdicts.flagged)[: -MOST_ROWS - 1 : -1]
        new = tuple(self._row(rows, int(place), verdicts) for place in places)
        self._latest = (*new, *self._latest)[:MOST_ROWS]  # readers see all of it or none

    def judge(
        self, inputs: Tensors, findings: Sequence[Finding], ids: Sequence[str] = (), by: str = ""
    ) -> None:
        """Keep the first row of a request that broke a rule, unless one was kept just now.

        Args:
            inputs: Of the request, as they came.
            findings: At least one; the first tells the row.
            ids: Prediction ids of all its rows; none where it was refused.
            by: The variant that answered it.
        """
        now = self._clock()
        if abs(now - self._judged) < EVERY_S:  # a clock that was set back doesn't silence it
            return
        self._judged = now
        first = findings[0]
        others = sum(each.row == first.row for each in findings) - 1
        more = f" ({others} more like it in this row)" if others else ""
        row = FlaggedRow(
            id=ids[first.row] if ids else prediction_ids(1)[0],
            at=now,
            variant=by,
            predicted=None,
            p_val=None,
            inputs=tuple(self._input(name, each[first.row]) for name, each in inputs.items()),
            why=f"{first.input}{first.at} must be {first.expected}, got {shown(first.value)}{more}",
            refused=not ids,
        )
        self._latest = (row, *self._latest)[:MOST_ROWS]

    def after(self, identity: str = "") -> tuple[FlaggedRow, ...]:
        """Return what was kept, newest first, down to the row *identity*, which is left out."""
        latest = self._latest
        for place, row in enumerate(latest):
            if row.id == identity:
                return latest[:place]
        return latest

    def _row(self, rows: Observed, place: int, verdicts: Verdicts) -> FlaggedRow:
        predicted = rows.answers.predicted
        return FlaggedRow(
            id=rows.ids[place],
            at=float(rows.at[place]),
            variant=rows.variant,
            predicted=None if predicted is None else int(predicted[place]),
            p_val=None if verdicts.p_val is None else float(verdicts.p_val[place]),
            inputs=tuple(self._input(name, each[place]) for name, each in rows.inputs.items()),
        )

    def _input(self, name: str, row: Array) -> ShownInput:
        values = np.asarray(row)
        shape = self._images.get(name)
        if shape is not None:
            return ShownInput(name, values.size, picture=picture(values, shape))
        first = values.reshape(-1)[:MOST_VALUES].tolist()
        cut = (each[:MOST_TEXT] if isinstance(each, str) else each for each in first)
        return ShownInput(name, values.size, values=tuple(cut))


def picture(row: Array, shape: ImageShape) -> Picture:
    """Return the image of one row, thinned to at most `MOST_PIXELS` a side.

    Args:
        row: As the model takes it; what is not finite is shown as the least value.
    """
    height, width = shape.size(row.shape)
    if shape.layout == "NCHW":
        pixels = row.reshape(-1, height, width).transpose(1, 2, 0)
    else:
        pixels = row.reshape(height, width, -1)
    down, across = (
        np.linspace(0, side - 1, min(side, MOST_PIXELS)).round().astype(int)
        for side in (height, width)
    )
    channels = 3 if pixels.shape[2] >= 3 else 1
    thin = pixels[down][:, across, :channels].astype(np.float64)
    finite = thin[np.isfinite(thin)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    scaled = np.nan_to_num((thin - low) / ((high - low) or 1.0), nan=0.0, posinf=1.0, neginf=0.0)
    return Picture(len(down), len(across), channels, (scaled * 255).astype(np.uint8).tobytes())
