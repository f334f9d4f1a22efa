"""What no rule can exceed: the effective accuracy of one who knows all arrivals beforehand.

A linear program over a world in which everything is easier than here: requests may be answered in
parts, by several options, interrupted, on all cores together, and every row costs what it costs in
the thriftiest batch. What can be done here can be done there, so its optimum is an upper bound.

Time is cut at arrivals and deadlines, or between them where they are too many; requests then count
as come at the beginning of their slice and as due at the end of it, which is easier again.

Calls are taken to last their median. A run whose calls are drawn (`calls`) can only exceed that by
luck, as their mean lies above it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanflow_serve.policies.errors import MissingExtraError
from scanflow_serve.runtime.scheduler.jobs import Option
from scanflow_serve.runtime.simulation.arrivals import Arrival
from scanflow_serve.runtime.simulation.baselines import Setting
from scanflow_serve.runtime.simulation.calls import LEAST, P95, row_cost_s
from scanflow_serve.runtime.simulation.results import credit_of

MOST_SLICES = 2000  # solved within seconds; four times as many would tell 1e-4 more


@dataclass(frozen=True, slots=True)
class _Kind:
    """Requests that are alike: slices of arrival and deadline, rows, time in s."""

    came: int
    due: int
    rows: int
    deadline_s: float


def optimum(arrivals: Sequence[Arrival], setting: Setting, overhead_ms: float) -> float:
    """Return the most effective accuracy that any scheduling of *arrivals* could reach.

    Args:
        overhead_ms: CPU of one request beside inference.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.optimize import linprog
    except ImportError:
        raise MissingExtraError("scipy", "simulate", "leave out the optimum") from None
    cuts, kinds = _sliced(arrivals, setting.deadline_s)
    choices = _choices(kinds, setting, overhead_ms / 1000)
    if not choices.value.any():
        return 0.0  # nothing can be answered in time
    capacity_s = setting.cores * np.diff(cuts)
    program = _program(choices, capacity_s, list(kinds.values()))
    found = linprog(**program, method="highs-ipm")
    if not found.success:
        raise RuntimeError(f"optimum: the program must have a solution, got {found.message!r}")
    return float(-found.fun / len(arrivals))


def _sliced(
    arrivals: Sequence[Arrival], deadline_s: float
) -> tuple[NDArray[np.float64], Counter[_Kind]]:
    """Return where time is cut, and how many requests there are of each kind."""
    came = np.array([each.at for each in arrivals])
    lengths = np.array(
        [deadline_s if each.deadline_ms is None else each.deadline_ms / 1000 for each in arrivals]
    )
    due = came + lengths
    cuts = np.unique(np.concatenate([came, due]))
    if len(cuts) > MOST_SLICES:  # every so-many-th, and the last: busy times stay fine
        step = -(-len(cuts) // MOST_SLICES)
        cuts = np.unique(np.append(cuts[::step], cuts[-1]))
    first = np.searchsorted(cuts, came, side="right") - 1
    last = np.searchsorted(cuts, due, side="left")
    rows = [each.rows for each in arrivals]
    listed = zip(first.tolist(), last.tolist(), rows, lengths.tolist(), strict=True)
    return cuts, Counter(_Kind(*each) for each in listed)


@dataclass(frozen=True, slots=True)
class _Choices:
    """The variables that matter: how many requests of one kind one option answers.

    Attributes:
        kind: Number of the kind, as all here of shape (n,).
        came: Slice.
        due: The slice after the last in which it may be answered.
        work_s: Core time of one request.
        value: Of one request that is answered.
    """

    kind: NDArray[np.int_]
    came: NDArray[np.int_]
    due: NDArray[np.int_]
    work_s: NDArray[np.float64]
    value: NDArray[np.float64]


def _choices(kinds: Counter[_Kind], setting: Setting, overhead_s: float) -> _Choices:
    """Return who may answer what: options that can ever do so in time."""
    credit = credit_of(setting.options)
    costs = {option: row_cost_s(option, setting.cores) for option in setting.options}
    able = [
        (number, kind, option)
        for number, kind in enumerate(kinds)
        for option in setting.options
        if _least_s(option, kind.rows) <= kind.deadline_s
    ]
    return _Choices(
        kind=np.array([number for number, _, _ in able], dtype=int),
        came=np.array([kind.came for _, kind, _ in able], dtype=int),
        due=np.array([kind.due for _, kind, _ in able], dtype=int),
        work_s=np.array([kind.rows * costs[option] + overhead_s for _, kind, option in able]),
        value=np.array([credit[option.id] for _, _, option in able]),
    )


def _program(choices: _Choices, capacity_s: NDArray[np.float64], counts: list[int]) -> Any:
    """Return the arguments of `scipy.optimize.linprog`.

    Its variables are the choices; then by slice the work done, the work that has come and is not
    done (>= 0: nothing is done before it came), and the work done before it is due (>= 0: all that
    is due is done).

    Args:
        capacity_s: Core time of each slice.
        counts: Requests of each kind.
    """
    from scipy.sparse import coo_array

    n, slices = len(choices.kind), len(capacity_s)
    at, chosen = np.arange(slices), np.arange(n)
    done, backlog, ahead = n + at, n + slices + at, n + 2 * slices + at
    one = np.ones(slices)
    balance = (  # each row is 0: backlog[b] - backlog[b-1] + done[b] - work that came in b
        (at, backlog, one),
        (at[1:], backlog[:-1], -one[1:]),
        (at, done, one),
        (choices.came, chosen, -choices.work_s),
        # and ahead[b] - ahead[b-1] - done[b] + work that is due by the end of b
        (slices + at, ahead, one),
        (slices + at[1:], ahead[:-1], -one[1:]),
        (slices + at, done, -one),
        (slices + choices.due - 1, chosen, choices.work_s),
    )
    row, column, entry = (np.concatenate(part) for part in zip(*balance, strict=True))
    size = n + 3 * slices
    no_bound = np.full(2 * slices, np.inf)
    upper = np.concatenate([np.full(n, np.inf), capacity_s, no_bound])
    each_once = coo_array((np.ones(n), (choices.kind, chosen)), shape=(len(counts), size))
    return {
        "c": np.concatenate([-choices.value, np.zeros(3 * slices)]),
        "A_eq": coo_array((entry, (row, column)), shape=(2 * slices, size)).tocsr(),
        "b_eq": np.zeros(2 * slices),
        "A_ub": each_once.tocsr(),
        "b_ub": np.array(counts, dtype=float),
        "bounds": np.column_stack([np.zeros(size), upper]),
    }


def _least_s(option: Option, rows: int) -> float:
    """Return the shortest time in which *option* can ever answer *rows* rows."""
    median, p95 = option.curve.p50_ms(rows), option.curve.p95_ms(rows)
    alone = 1000 * option.curve.contention
    return median * math.exp(math.log(p95 / median) * LEAST / P95) / alone
