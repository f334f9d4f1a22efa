"""How far a window's histogram is from the reference's, and how odd that is for its size.

Fixed rules ignore the number of rows: "PSI > 0.1" cries in 77 % of clean windows of 50 rows. Every
distance here comes with the p-value of two samples of these sizes, from tables of none: the serving
process has no scipy. Features are rows of the arrays, and none is looped over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erfc, pi, sqrt

import numpy as np

from scanflow_serve.runtime.checks.statistics.bins import BINS
from scanflow_serve.runtime.tensors import Array


@dataclass(frozen=True, slots=True)
class Distance:
    """Of each feature, both of shape (features,), float64.

    Attributes:
        statistic: The distance itself.
        p: Of two samples of one distribution.
    """

    statistic: Array
    p: Array


def kolmogorov_smirnov(before: Array, after: Array, centres: Array) -> Distance:
    """Return the largest difference of the shares below an edge.

    Source:
        Kolmogorov's limit, with the maximum over edges in place of over all values taken back by
        Broadie, Glasserman & Kou (1997); or the union bound over edges where these are few.
    """
    shares, gaps, size = _cumulated(before, after)
    statistic = np.abs(gaps).max(axis=1)
    scaled = np.sqrt(size) * statistic
    spacing = np.diff(shares, axis=1, prepend=0.0, append=1.0)
    worst = np.abs(gaps).argmax(axis=1)[:, None]
    beside = np.take_along_axis(spacing, np.concatenate([worst, worst + 1], axis=1), axis=1)
    limit = _kolmogorov_tail(scaled + 0.5826 * np.sqrt(beside.mean(axis=1)))
    # Of one row a window at least: rarer ones come as Poisson's, whose tail is heavier.
    variance = np.maximum(shares * (1 - shares), 1 / int(after[0].sum()))
    edges = (shares > 0) & (shares < 1)
    tails = np.where(edges, _normal_tail(scaled[:, None] / np.sqrt(variance)), 0.0)
    union = np.where(edges.any(axis=1), 2 * tails.sum(axis=1), 1.0)
    p = np.where(statistic > 0, np.minimum(union, limit), 1.0)
    return Distance(statistic, np.minimum(1.0, p))


def wasserstein(before: Array, after: Array, centres: Array) -> Distance:
    """Return how far values moved on average, in the feature's standard deviations.

    Values are taken to lie at the centres of their bins: beyond the outermost it is not measured.

    Source:
        Its null is the integral of a Brownian bridge's modulus, of known mean and variance, taken
        for a gamma variable; E|XY| of normal X, Y by Nabeya (1951).
    """
    shares, gaps, size = _cumulated(before, after)
    widths = np.diff(centres, axis=1)
    statistic = (np.abs(gaps) * widths).sum(axis=1)
    deviation = np.sqrt(shares * (1 - shares))
    low = np.minimum(shares[:, :, None], shares[:, None, :])
    high = np.maximum(shares[:, :, None], shares[:, None, :])
    products = deviation[:, :, None] * deviation[:, None, :]
    correlation = np.divide(low * (1 - high), products, out=np.zeros_like(low), where=products > 0)
    correlation = np.minimum(correlation, 1.0)
    moments = products * (np.sqrt(1 - correlation**2) + correlation * np.arcsin(correlation))
    mean = sqrt(2 / pi) * (deviation * widths).sum(axis=1)
    square = 2 / pi * (widths[:, :, None] * widths[:, None, :] * moments).sum(axis=(1, 2))
    spread = np.maximum(square - mean**2, 0.0)
    return Distance(statistic, _gamma_tail(np.sqrt(size) * statistic, mean, spread))


def chi_squared(before: Array, after: Array, centres: Array) -> Distance:
    """Return Pearson's statistic of two rows of counts, over tenths.

    Source:
        Pearson (1900), its tail by Wilson & Hilferty (1931).
    """
    first, second = _tenths(before, after)
    n, m = _size(first), _size(second)
    both = first + second
    differences = (np.sqrt(m / n) * first - np.sqrt(n / m) * second) ** 2
    statistic = np.divide(differences, both, out=np.zeros(both.shape), where=both > 0).sum(axis=1)
    return Distance(statistic, chi_squared_tail(statistic, _freedom(both)))


def population_stability(before: Array, after: Array, centres: Array) -> Distance:
    """Return the population stability index over tenths, half a row added to each.

    Source:
        Yurdakul & Naranjo (2020), "Statistical properties of the population stability index":
        PSI is chi-squared of B - 1 degrees, times 1/n + 1/m.
    """
    first, second = _tenths(before, after)
    p, q = _smoothed(first, second, 0.5)
    statistic = ((p - q) * np.log(p / q)).sum(axis=1)
    scale = (1 / _size(first) + 1 / _size(second))[:, 0]
    return Distance(statistic, chi_squared_tail(statistic / scale, _freedom(first + second)))


def jensen_shannon(before: Array, after: Array, centres: Array) -> Distance:
    """Return the Jensen-Shannon distance over tenths, to base 2: 0 alike, 1 nothing in common.

    Source:
        Lin (1991); eight times the divergence in nats is, to second order, chi-squared times
        1/n + 1/m. The p-value is of a quarter row added to each, or windows of 50 rows cry at 9 %.
    """
    first, second = _tenths(before, after)
    statistic = _divergence(first / _size(first), second / _size(second))
    scale = (1 / _size(first) + 1 / _size(second))[:, 0]
    smoothed = _divergence(*_smoothed(first, second, 0.25))
    p = chi_squared_tail(8 * smoothed / scale, _freedom(first + second))
    return Distance(np.sqrt(np.maximum(statistic, 0.0) / np.log(2)), p)


# By the policy's `method`: (before, after, centres) -> distance; counts of shape (features, BINS).
DISTANCES: dict[str, Callable[[Array, Array, Array], Distance]] = {
    "ks": kolmogorov_smirnov,
    "psi": population_stability,
    "chi2": chi_squared,
    "js": jensen_shannon,
    "wasserstein": wasserstein,
}


def chi_squared_tail(x: Array, freedom: Array) -> Array:
    """Return P(chi-squared > x), both of shape (features,); 1 for no degrees of freedom.

    Source:
        Wilson & Hilferty (1931): the cube root is nearly normal. Of one degree exactly.
    """
    degrees = np.maximum(freedom, 1)
    part = 2 / (9 * degrees)
    tail = _normal_tail((np.cbrt(x / degrees) - (1 - part)) / np.sqrt(part))
    exact = np.array([erfc(sqrt(max(each, 0.0) / 2)) for each in x])
    result: Array = np.where(freedom <= 0, 1.0, np.where(freedom == 1, exact, tail))
    return result


def _gamma_tail(x: Array, mean: Array, variance: Array) -> Array:
    """Return P(G > x) of gamma variables of these moments; 1 where there is no variance."""
    some = (variance > 0) & (mean > 0)
    part = np.divide(variance, 9 * mean**2, out=np.ones(x.shape), where=some)
    scaled = np.cbrt(np.divide(x, mean, out=np.zeros(x.shape), where=some))
    tail: Array = np.where(some, _normal_tail((scaled - (1 - part)) / np.sqrt(part)), 1.0)
    return tail


def _normal_tail(x: Array) -> Array:
    """Return P(N(0, 1) > x) of each."""
    return np.array([erfc(each) / 2 for each in (x / sqrt(2)).ravel().tolist()]).reshape(x.shape)


def _kolmogorov_tail(x: Array) -> Array:
    k = np.arange(1, 40)[:, None]
    # The series is no use below 0.3, where the tail is 1 to five digits.
    terms = (-1.0) ** (k - 1) * np.exp(-2 * k**2 * np.maximum(x, 0.3) ** 2)
    tail: Array = np.clip(2 * terms.sum(axis=0), 0.0, 1.0)
    return tail


def _cumulated(before: Array, after: Array) -> tuple[Array, Array, float]:
    """Return shares of both below each edge, their difference, and the effective size."""
    n, m = int(before[0].sum()), int(after[0].sum())
    below, above = before.cumsum(axis=1)[:, :-1], after.cumsum(axis=1)[:, :-1]
    return (below + above) / (n + m), below / n - above / m, n * m / (n + m)


def _tenths(before: Array, after: Array) -> tuple[Array, Array]:
    """Return both over tenths, bins that are too rare to tell joined, shape (features, BINS + 1).

    Twentieths are joined in pairs, values of a feature of at most ten stay. What is expected less
    than once in the window is joined, or its square is no chi-squared; by the counts of both
    together, so that what has become frequent is not.
    """
    few = ((before > 0).sum(axis=1) <= BINS // 2)[:, None]
    first, second = (np.where(few, each, _paired(each)) for each in (before, after))
    both = first + second
    rare = both * (_size(second) / _size(both)) < 1
    joined = np.where(rare, both, 0).sum(axis=1) * (_size(second) / _size(both))[:, 0]
    target = np.where(joined < 1, np.where(rare, 0, both).argmax(axis=1), BINS)
    place = np.arange(len(both))
    tables = []
    for each in (first, second):
        table = np.zeros((len(each), BINS + 1))
        table[:, :BINS] = np.where(rare, 0, each)
        table[place, target] += np.where(rare, each, 0).sum(axis=1)
        tables.append(table)
    return tables[0], tables[1]


def _paired(counts: Array) -> Array:
    """Return the counts with those of every odd bin moved to the even one before it."""
    pairs = np.zeros_like(counts)
    pairs[:, ::2] = counts[:, ::2] + counts[:, 1::2]
    return pairs


def _smoothed(first: Array, second: Array, added: float) -> tuple[Array, Array]:
    """Return the shares of both with so many rows *added* where either has any; 1 elsewhere."""
    some = first + second > 0
    shares = []
    for each in (first, second):
        table = each + np.where(some, added, 0.0)
        shares.append(np.where(some, table / _size(table), 1.0))
    return shares[0], shares[1]


def _divergence(p: Array, q: Array) -> Array:
    """Return the Jensen-Shannon divergence of rows of shares in nats; equal shares add nothing."""
    middle = (p + q) / 2
    total = np.zeros(len(p))
    for each in (p, q):
        ratio = np.divide(each, middle, out=np.ones(each.shape), where=each > 0)
        total += (each * np.log(ratio)).sum(axis=1) / 2
    return total


def _size(counts: Array) -> Array:
    size: Array = counts.sum(axis=1, keepdims=True)
    return size


def _freedom(both: Array) -> Array:
    freedom: Array = (both > 0).sum(axis=1) - 1
    return freedom
