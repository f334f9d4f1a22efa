"""River's detectors: fed with ranks, imported late, kept as numbers; and what they tell of ours."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from checks_worlds import World, inverted, states, stream

from scanflow_serve.policies.errors import MissingExtraError, UsageError
from scanflow_serve.runtime.checks import river_checks
from scanflow_serve.runtime.checks.river_streams import Kind, Stream, adwin, kswin, page_hinkley
from scanflow_serve.runtime.checks.statistics.edetector import EDetector

KINDS = {
    "adwin": partial(adwin, 0.002),
    "page_hinkley": partial(page_hinkley, 0.05, 15.0),
    "kswin": partial(kswin, 0.00005, 100, 0),
}
TRAIN = "reference: data/digits-train.npz, input: pixels"


def found(kind: Kind, values: np.ndarray) -> int | None:
    stream_of = Stream(kind)
    stream_of.begin()
    return stream_of.update(values)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]()


def changed(seed: int, rows: int = 1000) -> np.ndarray:
    """Return ranks that crowd near 0 from row *rows* on."""
    ranks = np.random.default_rng(seed).random(rows + 300)
    ranks[rows:] **= 4
    return ranks


def test_change_of_ranks_is_found_and_none_before(kind: Kind) -> None:
    places = [found(kind, changed(seed)) for seed in range(3)]
    assert all(place is not None and 1000 <= place < 1300 for place in places)


def test_bets_on_the_same_ranks_are_no_slower() -> None:
    """What a promised run length of 10,000 costs in delay, beside detectors that promise none."""
    for seed in range(3):
        path = EDetector().update(changed(seed))
        ours = int(np.flatnonzero(path >= np.log(10_000))[0])
        assert 1000 <= ours <= (found(adwin(0.002), changed(seed)) or 0)


def test_stream_that_is_kept_goes_on_as_if_it_had_not_stopped(kind: Kind) -> None:
    values = np.random.default_rng(7).random(kind.most + 150)  # it was begun anew meanwhile
    whole, first, second = Stream(kind), Stream(kind), Stream(kind)
    whole.begin()
    first.begin()
    if kind.most > 5000:
        assert first.update(values) is None
    else:
        first.update(values[: kind.most + 50])
    assert len(first.state()["values"]) <= kind.most
    second.restore(first.state())
    whole.restore(first.state())
    later = changed(8, rows=10)
    assert second.update(later) == whole.update(later) == first.update(later)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_unit_of_a_score_changes_nothing(scale: float) -> None:
    """Fed with scores themselves, ADWIN would take 50 times as long in smaller units."""
    from scanflow_serve.runtime.checks.statistics.strata import StratifiedCalibration

    rng = np.random.default_rng(1)
    reference = rng.normal(size=300)
    live = np.concatenate([rng.normal(size=500), rng.normal(1.5, size=200)])
    plain = StratifiedCalibration.of_one(reference).places(live, None)
    scaled = StratifiedCalibration.of_one(scale * reference).places(scale * live, None)
    np.testing.assert_array_equal(plain, scaled)
    assert found(adwin(0.002), plain) is not None


def test_missing_river_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(river_checks, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'scanflow-serve\[river\]'"):
        World(f"  - adwin: {{{TRAIN}}}", tmp_path).host()


def test_river_is_imported_by_the_check_that_is_armed_and_by_no_other() -> None:
    code = (
        "import sys, tempfile; from pathlib import Path; from checks_worlds import World\n"
        "world = World('  - {}', Path(tempfile.mkdtemp())); world.host()\n"
        "print('river' in sys.modules)"
    )
    loaded = {}
    for check in ("drift: {method: pca, " + TRAIN + "}", "adwin: {method: pca, " + TRAIN + "}"):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("{}", check)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        loaded[check.partition(":")[0]] = done.stdout.split()[-1]
    assert loaded == {"drift": "False", "adwin": "True"}


@pytest.mark.parametrize(
    ("check", "rule"),
    [
        ("adwin: {delta: 2}", r"delta must be in \(0, 1\), got 2"),
        ("page_hinkley: {threshold: 0}", "threshold must be a number > 0, got 0"),
        ("kswin: {window: 40}", r"window must be >= 2 \* 30, got 40"),
        ("kswin: {alpha: small}", r"alpha must be in \(0, 1\), got 'small'"),
        ("adwin: {method: lstm}", "method must be one of single rows, got 'lstm'"),
        ("adwin: {method: typo}", "method must be one of .*, got 'typo'"),
    ],
)
def test_wrong_setting_is_refused_with_its_place(tmp_path: Path, check: str, rule: str) -> None:
    kind = check.partition(":")[0]
    with pytest.raises(UsageError, match=rf"checks\[0\]\.{kind}: {rule}"):
        World(f"  - {check}", tmp_path).host()


def test_alarm_tells_when_which_rows_and_what_moved(tmp_path: Path) -> None:
    world = World(f"  - page_hinkley: {{method: pca, {TRAIN}}}", tmp_path)
    host = world.host()
    world.feed(host, stream(1, 400))
    before = world.clock.now
    world.feed(host, inverted(stream(2, 200)))
    assert states(host) == ["alarm"]
    evidence = host.watches[0].life.evidence
    assert evidence is not None
    assert evidence.detector == "page_hinkley"
    assert evidence.since_at is not None
    assert before < evidence.since_at <= world.clock.now
    assert len(evidence.rows) == 20
    assert evidence.features[0]["moved"] > 0.4


def test_check_without_bets_leaves_the_budget_to_the_others(tmp_path: Path) -> None:
    drift = f"  - drift: {{method: pca, members: [], {TRAIN}}}"
    host = World(f"{drift}\n  - adwin: {{method: pca, {TRAIN}}}", tmp_path).host()
    assert [watch.weight for watch in host.watches] == [1.0, 0.0]
