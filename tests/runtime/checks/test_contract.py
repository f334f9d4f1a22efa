"""What every check is held to: ours, River's, and a third party's, found by their entry points."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import metadata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from checks_worlds import DIGITS, FIRST, World, digits, inverted, models, policy_file, stream

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.checks import conduct, registry
from scanflow_serve.runtime.checks.batches import answers
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.isolation import kept_bytes
from scanflow_serve.runtime.checks.protocol import Check, Cost, Family, Need, Reading
from scanflow_serve.runtime.checks.references import Subject
from scanflow_serve.runtime.checks.rows import Observed, Reference
from scanflow_serve.runtime.checks.storage import Checkpoint, Storage
from scanflow_serve.runtime.tensors import Array

TRAIN = {"reference": "data/digits-train.npz", "input": "pixels"}
LABELLED = {"reference": "data/digits-validation.npz", "target": "label"}
RIVER = ("adwin", "page_hinkley", "kswin")
MISCONDUCT = {"raises", "hangs", "leaks", "shapeless", "verdictless", "numberless", "stateless"}
RUN_LENGTH = 10_000
MOST_BYTES = 2 * 2**20  # of one model's checks: goal G6


@dataclass(frozen=True)
class Case:
    """One check as a policy asks for it.

    Attributes:
        rows: Enough to have it hold all that it ever holds.
    """

    kind: str
    settings: Mapping[str, Any]
    rows: int = 12_000

    @property
    def yaml(self) -> str:
        return f"  - {self.kind}: {json.dumps(dict(self.settings))}"

    def __str__(self) -> str:
        return "-".join([self.kind, str(self.settings.get("method", ""))]).rstrip("-")


CASES = [
    *(Case("anomaly", {"method": m, **TRAIN}) for m in ("pca", "confidence", "entropy")),
    *(Case("drift", {"method": m, **TRAIN}) for m in ("pca", "autoencoder", "confidence")),
    Case("drift", {"method": "pca", "members": [], "strict": True, **TRAIN}),
    *(Case("drift", {"method": m, "window": 50, **TRAIN}) for m in ("ks", "psi", "chi2", "js")),
    *(Case("drift", {"method": m, "window": 50, **TRAIN}) for m in ("wasserstein",)),
    Case("drift", {"method": "mmd", "window": 50, **TRAIN}, rows=2000),
    Case("balance", LABELLED),
    *(Case(kind, {"method": m, **TRAIN}) for kind in RIVER[:2] for m in ("pca", "confidence")),
    Case("kswin", {"method": "pca", **TRAIN}, rows=2400),
    Case("brightness", TRAIN),
    Case("stuck", TRAIN),
]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param  # type: ignore[no-any-return]


def fitted(case: Case, folder: Path) -> Check:
    """Return the check as the host makes and arms it."""
    (watch,) = World(case.yaml, folder).host().watches
    assert watch.armed, watch.life.why
    return watch.check


def unfitted(case: Case, folder: Path) -> Check:
    """Return the check as it is after a start, before anything else."""
    subject = Subject(policy_file(case.yaml), DIGITS, None, "classify", models)
    (watch,) = Host(subject, folder, lambda event: None).watches
    return watch.check


@pytest.fixture
def check(case: Case, tmp_path: Path) -> Check:
    return fitted(case, tmp_path / "state")


def live(rows: Array) -> Observed:
    """Return rows as they were answered, a second after one another."""
    inputs = {"pixels": rows.astype(np.float32)}
    said = answers(models()[FIRST].run(inputs), "logits", "logits")
    ids = [str(row) for row in range(len(rows))]
    return Observed(ids, inputs, said, FIRST, 1e6 + np.arange(len(rows)))


def part_of(rows: Observed, start: int, stop: int) -> Observed:
    part = slice(start, stop)
    inputs = {name: array[part] for name, array in rows.inputs.items()}
    return Observed(rows.ids[part], inputs, rows.answers.take(part), rows.variant, rows.at[part])


def feed(check: Check, rows: Array, batch: int = 50, start: int = 0) -> None:
    every = live(rows)
    for at in range(start, len(rows), batch):
        conduct.verdicts(check, part_of(every, at, at + batch))


def drifted(case: Case) -> Array:
    """Return rows that nobody could take for normal ones."""
    if case.kind == "stuck":
        return np.repeat(stream(9, 1), 300, axis=0)
    if case.kind == "anomaly" and case.settings["method"] != "pca":  # between classes: unsure
        rows = stream(9, 300)
        return (rows + rows[::-1] + np.roll(rows, 1, axis=0)) / 3
    return inverted(stream(9, 300))


def alarms(reading: Reading) -> bool:
    if reading.wealth is None:
        return reading.alarm
    return max(reading.wealth, reading.peak or 0.0) >= RUN_LENGTH


def same(first: Mapping[str, Array], second: Mapping[str, Array]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_every_check_found_is_held_to_this_contract() -> None:
    """Whoever adds an entry point adds a case."""
    found = registry.found().keys() - MISCONDUCT - {"unimportable"}
    assert found == {case.kind for case in CASES}


def test_check_declares_what_it_needs(check: Check) -> None:
    assert isinstance(check, Check)
    assert check.family in get_args(Family)
    assert check.needs
    assert check.needs <= set(get_args(Need))
    assert check.cost in get_args(Cost)
    assert check.extra in {None, *(metadata("scanflow-serve").get_all("Provides-Extra") or [])}
    assert isinstance(check.mergeable, bool)


def test_clean_rows_raise_no_alarm_and_drifted_ones_do(case: Case, check: Check) -> None:
    feed(check, stream(1, 500))
    quiet = conduct.reading(check)
    assert not alarms(quiet)
    feed(check, drifted(case))
    loud = conduct.reading(check)
    if check.family == "anomaly":
        assert loud.statistic > 5 * max(quiet.statistic, 0.01)  # alpha
    else:
        assert alarms(loud)


def test_check_that_does_not_bet_says_so(check: Check) -> None:
    feed(check, stream(1, 60))
    bets = conduct.reading(check).wealth is not None
    assert bets == (check.family in ("drift", "balance") and getattr(check, "bets", True))


def test_acknowledged_check_goes_on_from_nothing(case: Case, check: Check) -> None:
    feed(check, drifted(case))
    check.result()
    check.acknowledge()
    feed(check, stream(2, 300))
    assert not alarms(conduct.reading(check))
    feed(check, drifted(case))
    assert check.family == "anomaly" or alarms(conduct.reading(check))


def test_same_rows_give_the_same_verdicts_and_state(case: Case, tmp_path: Path) -> None:
    first, second = (fitted(case, tmp_path / name) for name in ("first", "second"))
    for rows in (stream(3, 120), stream(4, 1), inverted(stream(5, 30))):
        said, again = (conduct.verdicts(check, live(rows)) for check in (first, second))
        assert (said is None) == (again is None)
        if said is not None and again is not None:
            np.testing.assert_array_equal(said.flagged, again.flagged)
    same(conduct.state(first), conduct.state(second))


def test_size_of_batches_changes_nothing(case: Case, tmp_path: Path) -> None:
    readings = []
    for name, batch in (("one", 1), ("many", 67)):
        check = fitted(case, tmp_path / name)
        feed(check, stream(3, 201), batch=batch)
        readings.append(conduct.reading(check))
    one, many = readings
    assert one.p_val == many.p_val
    assert one.alarm == many.alarm
    if one.wealth is not None:
        assert one.wealth == pytest.approx(many.wealth, rel=1e-9)


def test_restart_goes_on_where_it_was(case: Case, tmp_path: Path) -> None:
    """Half a stream, a file, a fresh process and the other half: all as without the restart."""
    rows = stream(6, 330)
    whole = fitted(case, tmp_path / "whole")
    feed(whole, rows)
    first = fitted(case, tmp_path / "first")
    feed(first, rows[:150])
    Storage(tmp_path / "kept").save("it", Checkpoint("digest", {}, conduct.state(first)))
    kept = Storage(tmp_path / "kept").load("it", "digest")
    assert kept is not None
    second = unfitted(case, tmp_path / "second")
    second.restore(kept.arrays)
    feed(second, rows, start=150)
    one, two = conduct.reading(whole), conduct.reading(second)
    assert (one.wealth, one.statistic) == (two.wealth, two.statistic)
    assert (one.p_val, one.alarm) == (two.p_val, two.alarm)
    same(conduct.state(whole), conduct.state(second))


def test_alarm_survives_a_restart(case: Case, check: Check, tmp_path: Path) -> None:
    feed(check, drifted(case))
    again = unfitted(case, tmp_path / "again")
    again.restore(conduct.state(check))
    assert alarms(conduct.reading(again)) == alarms(conduct.reading(check))


def test_replicas_count_together_or_say_that_they_can_not(case: Case, tmp_path: Path) -> None:
    first, second = (fitted(case, tmp_path / name) for name in ("first", "second"))
    feed(first, stream(7, 200))
    feed(second, drifted(case)[:100])
    alone = [conduct.reading(check) for check in (first, second)]
    if not first.mergeable:
        with pytest.raises(ValueError, match="must be mergeable"):
            first.merge([conduct.state(second)])
        return
    first.merge([conduct.state(second)])
    merged = conduct.reading(first)
    assert merged.alarm == (alone[0].alarm or alone[1].alarm)
    if merged.wealth is not None:
        assert merged.wealth == pytest.approx(sum(each.wealth or 0.0 for each in alone))


JUNK = {
    "no rows": np.empty((0, 64)),
    "one row": stream(8, 1),
    "NaN": np.full((3, 64), np.nan),
    "infinite": np.full((3, 64), np.inf),
    "huge": np.full((3, 64), 3e38),
    "nothing": np.zeros((3, 64)),
    "some NaN": np.where(np.arange(64) == 5, np.nan, stream(8, 3)),
}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # what numpy says of inf
def test_junk_neither_breaks_nor_blinds_it(case: Case, check: Check) -> None:
    for junk in JUNK.values():
        rows = live(junk)
        for array in rows.inputs.values():
            array.flags.writeable = False  # they are the caller's
        conduct.verdicts(check, rows)
        conduct.reading(check)
    check.acknowledge()
    feed(check, stream(2, 200))
    assert not alarms(conduct.reading(check))
    feed(check, drifted(case))
    assert check.family == "anomaly" or alarms(conduct.reading(check))


def test_rows_of_a_variant_that_it_does_not_know_do_no_harm(check: Check) -> None:
    rows = replace(live(stream(8, 20)), variant="unheard-of/onnxruntime-fp32")
    conduct.verdicts(check, rows)
    assert not alarms(conduct.reading(check))


def test_what_it_keeps_is_bounded(case: Case, check: Check) -> None:
    feed(check, stream(1, case.rows // 2), batch=400)
    half = kept_bytes(check)
    feed(check, stream(2, case.rows - case.rows // 2), batch=400)
    assert kept_bytes(check) <= 1.2 * half
    assert sum(array.nbytes for array in conduct.state(check).values()) <= MOST_BYTES


def test_setting_that_it_does_not_take_is_told_with_its_place(case: Case, tmp_path: Path) -> None:
    wrong = replace(case, settings={**case.settings, "no_such_setting": 1})
    if case.kind in ("anomaly", "drift", "balance"):  # at load, with file and line
        with pytest.raises(Exception, match="no_such_setting"):
            policy_file(wrong.yaml)
        return
    with pytest.raises(UsageError, match=rf"checks\[0\]\.{case.kind}: .*no_such_setting"):
        unfitted(wrong, tmp_path)


def test_reference_of_one_row_is_refused(case: Case, tmp_path: Path) -> None:
    if case.kind == "balance":
        pytest.skip("its expectation learns from live rows: one is a start")
    rows = digits("validation")[0][:1]
    known = {variant: live(rows).answers for variant in models()}
    with pytest.raises(ValueError, match="rows"):
        unfitted(case, tmp_path).fit(Reference({"pixels": rows}, known))
