from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanflow_serve.runtime.checks.statistics.balance import ClassBalance

A = 10_000


def names(rows: int, start: int = 0) -> list[str]:
    return [f"row-{row}" for row in range(start, start + rows)]


@settings(deadline=None)
@given(classes=st.lists(st.integers(0, 2), max_size=260), data=st.data())
def test_wealth_follows_the_published_recursion_in_batches_of_any_size(
    classes: list[int], data: st.DataObject
) -> None:
    reference = {"a": np.array([5, 3, 0]), "b": np.array([1, 9, 4])}
    batch = data.draw(st.integers(1, 150))
    balance, path, expected = ClassBalance(reference), [], []
    live = {name: np.zeros(3) for name in reference}
    total = np.zeros(2)
    for low in range(0, len(classes), batch):
        variant = "ab"[low // batch % 2]
        path += balance.update(np.array(classes[low : low + batch]), variant).tolist()
        for row in range(low, min(low + batch, len(classes))):
            known = reference[variant] + live[variant] + 0.5
            pi = known / known.sum()
            for bet, (most, pseudo) in enumerate([(100, 20), (50, 10)]):
                recent = np.bincount(classes[max(0, row - most) : row], minlength=3)
                q = (recent + pseudo * pi) / (recent.sum() + pseudo)
                total[bet] = (total[bet] + 1) * q[classes[row]] / pi[classes[row]]
            live[variant][classes[row]] += 1
            expected.append(total.mean())
    assert np.exp(path) == pytest.approx(expected, rel=1e-8)


def balance_delay(seed: int, before: list[float], after: list[float], most: int) -> int:
    rng = np.random.default_rng(seed)
    reference = rng.multinomial(600, before)
    balance = ClassBalance({"m": reference})
    balance.update(rng.choice(len(before), 200, p=before), "m")
    path = balance.update(rng.choice(len(before), most, p=after), "m")
    crossed = np.flatnonzero(path >= np.log(A))
    return int(crossed[0]) + 1 if len(crossed) else most + 1


TENTH = [0.1] * 10


@pytest.mark.parametrize(
    ("before", "after", "goal"),
    [
        ([0.3, 0.7], [0.6, 0.4], 60),  # measured: 51, 83, 145
        (TENTH, [0.3, *[0.7 / 9] * 9], 90),
        (TENTH, [0.0, *[1 / 9] * 9], 160),
    ],
    ids=["turned", "crowded", "vanished"],
)
def test_classes_that_come_otherwise_are_seen_within_the_goal(
    before: list[float], after: list[float], goal: int
) -> None:
    delays = [balance_delay(seed, before, after, 500) for seed in range(201)]
    assert np.median(delays) <= goal


@pytest.mark.parametrize("shares", [TENTH, [0.9, 0.09, 0.01]])
def test_mean_run_length_is_at_least_what_was_asked(shares: list[float]) -> None:
    """References are drawn afresh; 100 runs of at most 3,000 rows against 1,000."""
    rng = np.random.default_rng(1)
    rows = alarms = 0
    for _ in range(100):
        balance = ClassBalance({"m": rng.multinomial(300, shares)})
        path = balance.update(rng.choice(len(shares), 3000, p=shares), "m")
        crossed = np.flatnonzero(path >= np.log(1000))
        rows += int(crossed[0]) + 1 if len(crossed) else 3000
        alarms += bool(len(crossed))
    assert rows / max(alarms, 1) * np.exp(-1.645 / np.sqrt(max(alarms, 1))) >= 0.8 * 1000


def test_a_hundred_switches_between_unlike_variants_are_no_drift() -> None:
    """What the variants answer differs by far more than what would alarm for one of them."""
    rng = np.random.default_rng(2)
    shares = {"fp32": [0.5, 0.5], "int8": [0.7, 0.3]}
    balance = ClassBalance({name: rng.multinomial(600, each) for name, each in shares.items()})
    highest = -np.inf
    for switch in range(100):
        name = ("fp32", "int8")[switch % 2]
        path = balance.update(rng.choice(2, 40, p=shares[name]), name)
        highest = max(highest, path.max())
    assert highest < np.log(A)


def test_evidence_tells_since_when_and_which_classes() -> None:
    rng = np.random.default_rng(3)
    balance = ClassBalance({"m": np.full(10, 60)})
    balance.update(rng.integers(0, 10, 300), "m", names(300))
    balance.update(np.full(100, 9), "m", names(100, 300), np.arange(100.0))
    assert balance.wealth >= A
    assert balance.change_point is not None
    assert abs(balance.change_point - 300) <= 25
    assert balance.since == f"row-{balance.change_point}"
    assert len(balance.telling) == 20
    assert balance.recent[9] == 100
    assert balance.expected("m")[9] == pytest.approx(0.1)


def test_state_goes_on_where_it_was_and_replicas_add_up() -> None:
    rng = np.random.default_rng(4)
    reference = {"m": np.array([30, 70])}
    balance, again, replica = (ClassBalance(reference) for _ in range(3))
    balance.update(rng.integers(0, 2, 150), "m", names(150), np.arange(150.0))
    again.restore(balance.state())
    more = rng.integers(0, 2, 50)
    assert np.array_equal(again.update(more, "m"), balance.update(more, "m"))
    assert (again.since, again.since_at, again.telling) == (
        balance.since,
        balance.since_at,
        balance.telling,
    )
    replica.update(rng.integers(0, 2, 60), "m", names(60, 900))
    wealth = again.wealth + replica.wealth
    again.merge([replica.state()])
    assert again.wealth == pytest.approx(wealth)
    assert again.rows == 260


def test_acknowledged_balance_begins_with_the_reference_again() -> None:
    balance = ClassBalance({"m": np.array([300, 300])})
    first = balance.update(np.ones(80, int), "m", names(80))
    balance.acknowledge()
    assert (balance.wealth, balance.rows, balance.telling) == (0.0, 0, ())
    assert np.array_equal(balance.update(np.ones(80, int), "m"), first)


@pytest.mark.parametrize(
    ("classes", "variant", "rule"),
    [
        ([0, 2], "m", r"class must be in \[0, 2\), got 2"),
        ([-1], "m", r"class must be in \[0, 2\), got -1"),
        ([0], "other", r"variant must be one of \['m'\], got 'other'"),
    ],
)
def test_what_the_reference_has_not_is_refused(classes: list[int], variant: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ClassBalance({"m": np.array([1, 1])}).update(np.array(classes), variant)


@pytest.mark.parametrize("reference", [{}, {"a": np.ones(2), "b": np.ones(3)}])
def test_reference_of_unequal_classes_is_refused(reference: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="one count for each class of each variant"):
        ClassBalance(reference)
