"""Shifts of digits, as Rabanser et al. (2019), "Failing Loudly", shift images: 21 of them.

Noise, pictures moved by chance, and a class that stays away, each in three strengths or on a tenth,
a half and all of the rows. Their shears are in degrees and hardly seen; these are slopes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from traffic import SIDE, Population, Random, Rows, mixed, noisy

SHARES = (0.1, 0.5, 1.0)
ABSENT = 0  # the class that stays away, by the model's answers
Window: TypeAlias = Callable[[Population, Random, int], Rows]


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a picture may be moved; each is drawn evenly from both sides of nothing."""

    degrees: float
    shift: float  # of its side
    shear: float
    zoom: float
    flips: tuple[bool, bool] = (False, False)  # left to right, top to bottom


PICTURES = {
    "pictures, small": Moved(10, 0.05, 0.1, 0.1),
    "pictures, medium": Moved(40, 0.2, 0.2, 0.2, (True, False)),
    "pictures, large": Moved(90, 0.4, 0.3, 0.4, (True, True)),
}
NOISES = {f"noise {level}/255": level / 255 for level in (1, 10, 100)}


def shifts() -> dict[str, Window]:
    """Return what draws so many rows of each shifted population, by name."""
    found: dict[str, Window] = {}
    for share in SHARES:
        for name, sigma in NOISES.items():
            found[f"{name}, {share:.0%}"] = _partly(
                lambda rows, random, sigma=sigma: noisy(rows, random, sigma), share
            )
        for name, most in PICTURES.items():
            found[f"{name}, {share:.0%}"] = _partly(
                lambda rows, random, most=most: pictures_moved(rows, random, most), share
            )
        found[f"a class stays away, {share:.0%}"] = _without(share)
    return found


def pictures_moved(rows: Rows, random: Random, most: Moved) -> Rows:
    """Return digits, each turned, moved, sheared, zoomed and flipped by chance."""
    from scipy.ndimage import affine_transform

    middle = (SIDE - 1) / 2
    found = np.empty_like(rows)
    for row, image in enumerate(rows.reshape(-1, SIDE, SIDE)):
        matrix = _matrix(random, most)
        offset = middle - matrix @ (middle + random.uniform(-1, 1, 2) * most.shift * SIDE)
        flipped = image[:, ::-1] if most.flips[0] and random.uniform() < 0.5 else image
        flipped = flipped[::-1] if most.flips[1] and random.uniform() < 0.5 else flipped
        found[row] = affine_transform(flipped, matrix, offset, order=1, mode="nearest").ravel()
    return found


def _matrix(random: Random, most: Moved) -> Rows:
    angle, shear, zoom = random.uniform(-1, 1, 3) * (
        np.radians(most.degrees),
        most.shear,
        most.zoom,
    )
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    slanted: Rows = turn @ np.array([[1.0, shear], [0.0, 1.0]]) * (1 + zoom)
    return slanted


def _partly(shift: Callable[[Rows, Random], Rows], share: float) -> Window:
    def draw(population: Population, random: Random, count: int) -> Rows:
        rows = population.draw(random, count)
        return mixed(rows, shift(rows, random), random, share)

    return draw


def _without(share: float) -> Window:
    def draw(population: Population, random: Random, count: int) -> Rows:
        assert population.answer is not None
        rows = population.draw(random, 2 * count + 20)  # a tenth of which is of one class
        gone = population.answer(rows).argmax(axis=1) == ABSENT
        gone &= random.uniform(size=len(rows)) < share
        return rows[~gone][:count]

    return draw
