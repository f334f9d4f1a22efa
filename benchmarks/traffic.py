"""Where the rows of `drift` come from: populations to draw from at random, and ways to shift them.

A reference and the live rows after it are drawn, with replacement, from the same rows, which no
model was trained on: so that clean traffic is exchangeable with the reference, exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.float32]
Random: TypeAlias = np.random.Generator

TRAINED = 2000  # rows of a generator that its model is trained on
SIDE = 8  # of a digit
FULL = 16.0  # a digit's brightest value
DAY_ROWS = 2400
PERIOD = 23.7  # rows of a sine; no divisor of a window, or all would be of one phase
AGRAWAL = ("salary", "commission", "age", "education", "car", "zip", "value", "years", "loan")


@dataclass(frozen=True, slots=True)
class Population:
    """Rows of normal times, and the model that answers them.

    Attributes:
        draw: Returns so many independent rows, shape (rows, features).
        answer: Returns class probabilities, shape (rows, classes); None: nothing is classified.
    """

    name: str
    draw: Callable[[Random, int], Rows]
    answer: Callable[[Rows], NDArray[np.float64]] | None
    features: int


@cache
def bundled(name: str) -> Population:
    """Return one of scikit-learn's own sets: half trains a model, the other half is drawn from."""
    from sklearn import datasets

    rows, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    rows, target = rows[order].astype(np.float32), target[order]
    half = len(rows) // 2
    kept = rows[half:]

    def draw(random: Random, count: int) -> Rows:
        drawn: Rows = kept[random.integers(len(kept), size=count)]
        return drawn

    answer = None if name == "diabetes" else _model(rows[:half], target[:half])
    return Population(name, draw, answer, rows.shape[1])


def generated(
    name: str,
    features: int,
    draw: Callable[[Random, int], Rows],
    label: Callable[[Rows], NDArray[np.bool_]],
) -> Population:
    """Return a population without end, and a model of what *label* says of its rows."""
    rows = draw(np.random.default_rng(1), TRAINED)
    return Population(name, draw, _model(rows, label(rows).astype(int)), features)


@cache
def populations() -> tuple[Population, ...]:
    """Return all that clean traffic is drawn from."""
    slope = np.random.default_rng(2).uniform(size=10)
    return (
        *(bundled(name) for name in ("digits", "wine", "breast_cancer", "iris", "diabetes")),
        generated("SEA", 3, _sea, lambda x: x[:, 0] + x[:, 1] <= 8),
        generated("hyperplane", 10, _cube, lambda x: x @ slope >= slope.sum() / 2),
        generated("Agrawal", len(AGRAWAL), _agrawal, lambda x: (x[:, 2] < 40) | (x[:, 2] >= 60)),
    )


def noisy(rows: Rows, random: Random, sigma: float) -> Rows:
    """Return digits with noise of *sigma* of the full range, cut off at its ends."""
    noise = random.normal(0, sigma * FULL, rows.shape)
    return np.clip(rows + noise, 0, FULL).astype(np.float32)


def turned(rows: Rows, degrees: float) -> Rows:
    """Return digits turned by *degrees*."""
    from scipy.ndimage import rotate

    images = rows.reshape(-1, SIDE, SIDE)
    found = rotate(images, degrees, axes=(2, 1), reshape=False, order=1)
    return np.asarray(found.reshape(rows.shape), np.float32)


def blurred(rows: Rows, sigma: float) -> Rows:
    """Return digits out of focus, by *sigma* pixels."""
    from scipy.ndimage import gaussian_filter

    images = rows.reshape(-1, SIDE, SIDE)
    found: Rows = gaussian_filter(images, (0, sigma, sigma)).reshape(rows.shape)
    return found


def mixed(rows: Rows, shifted: Rows, random: Random, share: float | NDArray[np.float64]) -> Rows:
    """Return *rows*, a *share* of which (one, or each row's own) comes from *shifted*."""
    chosen = random.uniform(size=len(rows)) < share
    return np.where(chosen[:, None], shifted, rows)


def of_classes(population: Population, random: Random, count: int, wanted: object) -> Rows:
    """Return rows drawn so that the model's answers come in *wanted* shares, shape (classes,)."""
    assert population.answer is not None
    pool = population.draw(random, 5000)
    classes = population.answer(pool).argmax(axis=1)
    shares = np.asarray(wanted, dtype=np.float64)
    asked = random.choice(len(shares), size=count, p=shares / shares.sum())
    index = [random.choice(np.flatnonzero(classes == each)) for each in asked]
    return pool[np.array(index)]


def autoregressive(random: Random, count: int, features: int = 8, memory: float = 0.9) -> Rows:
    """Return rows each of which is *memory* of the row before, and noise; variance 1."""
    noise = random.normal(0, np.sqrt(1 - memory**2), (count, features))
    noise[0] /= np.sqrt(1 - memory**2)
    for row in range(1, count):
        noise[row] += memory * noise[row - 1]
    return noise.astype(np.float32)


def daily(
    random: Random, start: int, count: int, period: int = DAY_ROWS, features: int = 8
) -> Rows:
    """Return rows whose mean goes up and down by one standard deviation a day of *period* rows."""
    hour = 2 * np.pi * (np.arange(start, start + count) % period) / period
    rows = random.normal(size=(count, features)) + np.sin(hour)[:, None]
    return rows.astype(np.float32)


def sines(
    random: Random, count: int, *, faster: float = 1.0, apart: bool = False, channels: int = 4
) -> Rows:
    """Return channels of one sine each with a fixed lag, and noise: all rows in order of time.

    Args:
        faster: Factor on the frequency.
        apart: Channels lose their lag: each runs by itself, as likely as before row by row.
    """
    turned_by = 2 * np.pi * faster / PERIOD * np.arange(count)[:, None]
    lag = random.uniform(0, 2 * np.pi, channels) if apart else np.arange(channels) * np.pi / 4
    angle = random.uniform(0, 2 * np.pi) + turned_by + lag
    return (np.sin(angle) + random.normal(0, 0.1, angle.shape)).astype(np.float32)


def _model(rows: Rows, target: NDArray[np.int64]) -> Callable[[Rows], NDArray[np.float64]]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
    model.fit(rows, target)
    return lambda live: np.asarray(model.predict_proba(live))


def _sea(random: Random, count: int) -> Rows:
    return random.uniform(0, 10, (count, 3)).astype(np.float32)


def _cube(random: Random, count: int) -> Rows:
    return random.uniform(size=(count, 10)).astype(np.float32)


def _agrawal(random: Random, count: int) -> Rows:
    """Return rows of people who ask for a loan, as in Agrawal et al. (1993), section 5."""
    salary = random.uniform(20_000, 150_000, count)
    commission = np.where(salary >= 75_000, 0, random.uniform(10_000, 75_000, count))
    code = random.integers(9, size=count)
    columns = (
        salary,
        commission,
        random.integers(20, 81, size=count),
        random.integers(5, size=count),
        random.integers(20, size=count),
        code,
        random.uniform(0.5, 1.5, count) * (9 - code) * 100_000,
        random.integers(1, 31, size=count),
        random.uniform(0, 500_000, count),
    )
    return np.stack(columns, axis=1).astype(np.float32)
