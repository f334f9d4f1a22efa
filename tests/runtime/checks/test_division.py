"""Rows that depend on one another, or on the hour: strata, blocks, and what is said of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks_worlds import World, stream

from scanflow_serve.policies.errors import DataError, PolicyError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.checks import kinds
from scanflow_serve.runtime.checks.blocks import BlockMeans
from scanflow_serve.runtime.checks.configuration import configured, file_reference
from scanflow_serve.runtime.checks.portfolio import Portfolio
from scanflow_serve.runtime.checks.rows import Answers, Observed, Reference, Setting
from scanflow_serve.runtime.checks.strata import Strata
from scanflow_serve.runtime.checks.warmup import Warmup
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec

ROWS = Signature((TensorSpec("rows", "float32", (None, 8)),), ())
CONTRACT = Path(__file__).parents[2] / "contract"


def remembering(seed: int, rows: int, memory: float = 0.9) -> Array:
    """Return AR(1) rows of 8 features."""
    rng = np.random.default_rng(seed)
    found = np.empty((rows, 8))
    last = rng.normal(size=8)
    for row, noise in enumerate(rng.normal(size=(rows, 8)) * np.sqrt(1 - memory**2)):
        last = memory * last + noise
        found[row] = last
    return found.astype(np.float32)


def watched(
    reference: Array, *, at: Array | None = None, ordered: bool = True, **setting: Any
) -> Portfolio:
    check = kinds.drift(Setting(ROWS, **setting), method="pca", members=[])
    check.fit(Reference({"rows": reference}, ordered=ordered, at=at))
    return check


def live(rows: Array, at: Array | None = None, session: str = "") -> Observed:
    times = np.zeros(len(rows)) if at is None else at
    return Observed([""] * len(rows), {"rows": rows}, Answers({}), "model", times, session)


def alarms(check: Portfolio, rows: Array, at: Array | None = None) -> bool:
    check.observe(live(rows, at))
    peak = check.result().peak
    assert peak is not None
    return peak >= 10_000


def breaks(reference: Array, rows: Array) -> bool:
    """Return whether the promise is refused, or broken within *rows*."""
    try:
        return alarms(watched(reference), rows)
    except ValueError:
        return True


def test_reference_that_remembers_is_told_with_the_cure() -> None:
    (said,) = watched(remembering(0, 4000, 0.5)).cautions
    assert "false alarms will come more often than expected_run_length" in said
    assert "Set block: " in said


def test_reference_that_is_refused_for_its_memory_is_told_so() -> None:
    with pytest.raises(ValueError, match=r"must be flagged at .* resemble their neighbours"):
        watched(remembering(0, 8000, 0.97))


def test_independent_reference_is_not_complained_of() -> None:
    rows = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)
    assert watched(rows).cautions == ()


def test_blocks_keep_the_promise_that_single_rows_break() -> None:
    single, blocks = 0, 0
    for seed in range(6):
        rows = remembering(seed, 13_000)
        single += breaks(rows[:8000], rows[8000:])
        check = watched(rows[:8000], block=100)
        assert check.cautions == ()
        blocks += alarms(check, rows[8000:])
    assert single == 6
    assert blocks <= 4  # at 10,000 rows on average, 39 % of runs of 5,000 alarm: of 6 under 5


def test_blocks_still_see_a_change() -> None:
    rows = remembering(1, 9000)
    check = watched(rows[:8000], block=50)
    assert alarms(check, rows[8000:] * 3)


def test_blocks_that_are_too_short_are_told() -> None:
    (said,) = watched(remembering(2, 8000), block=4).cautions
    assert said.startswith("pca: blocks resemble their neighbours")


def test_half_a_block_is_kept_over_a_restart() -> None:
    rows = remembering(3, 8000)
    fresh = np.random.default_rng(9).normal(size=(230, 8)).astype(np.float32)
    whole, first = watched(rows, block=100), watched(rows, block=100)
    second = kinds.drift(Setting(ROWS, block=100), method="pca", members=[])
    whole.observe(live(fresh))
    first.observe(live(fresh[:130]))
    second.restore(first.state())
    second.observe(live(fresh[130:]))
    assert second.stakes[0].member.detector.rows == whole.stakes[0].member.detector.rows == 200


def test_blocks_of_sessions_that_take_turns_are_kept_apart() -> None:
    means = BlockMeans(2)
    assert [means.add(name, np.array([value]))[0].tolist() for name, value in (
        ("a", 1.0), ("b", 10.0), ("a", 3.0), ("b", 30.0),
    )] == [[], [], [2.0], [20.0]]  # fmt: skip


def test_too_few_blocks_are_refused_with_the_rows_that_it_takes() -> None:
    with pytest.raises(ValueError, match=r"there must be >= 20 blocks of 100 rows.*Give 6667"):
        watched(remembering(0, 4000), block=100)


def test_reference_in_no_order_is_not_taken_in_blocks() -> None:
    check = kinds.drift(Setting(ROWS, block=10), method="pca", members=[])
    with pytest.raises(ValueError, match="must be in order of time to be taken in blocks"):
        check.fit(Reference({"rows": remembering(0, 4000)}))


def test_hours_have_p_values_of_their_own() -> None:
    at = np.arange(22_000) * 60.0
    loud = np.where(at // 3600 % 24 < 12, 1.0, 4.0)[:, None]
    known, fresh = slice(0, 20_000), slice(20_000, None)
    false = 0
    for seed in range(4):
        rows = np.random.default_rng(seed).normal(size=(22_000, 8)) * loud
        rows = rows.astype(np.float32)
        assert breaks(rows[known], rows[fresh])
        divided = watched(rows[known], at=at[known], strata="hour", ordered=False)
        false += alarms(divided, rows[fresh], at[fresh])
        verdicts = divided.observe(live(rows[known][-200:] * 0 + 4, np.zeros(200)))
        assert verdicts is not None
        assert verdicts.flagged.all()  # an afternoon's scores, at midnight
    assert false <= 2  # at 10,000 rows on average, 18 % of runs of 2,000 alarm


def test_stratum_with_too_few_rows_is_told_and_not_judged() -> None:
    rows = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    at = np.where(np.arange(3000) % 15, 0.0, 3600.0)  # 200 of 3000 at one o'clock
    check = watched(rows, at=at, strata="hour")
    assert check.cautions == (
        "strata: 1 of 2 have fewer than 200 calibration rows and are not judged: 1. "
        "Give 667 reference rows of each.",
    )
    verdicts = check.observe(live(rows[:100] * 9, np.full(100, 3600.0)))
    assert verdicts is not None
    assert not verdicts.flagged.any()
    assert check.result().wealth == 0.0


def test_strata_that_are_all_too_small_are_refused() -> None:
    rows = remembering(0, 2000)
    with pytest.raises(ValueError, match=r"a stratum must have >= 200 calibration rows, got at"):
        watched(rows, at=np.arange(2000) * 3600.0, strata="hour")


@pytest.mark.parametrize("member", ["classes", "features"])
def test_members_that_look_at_all_rows_alike_are_not_divided(member: str) -> None:
    with pytest.raises(ValueError, match=f"members that score rows, got '{member}'"):
        kinds.drift(Setting(ROWS, strata="hour"), method="pca", members=[member])


def test_live_rows_are_learned_in_order_of_their_sessions() -> None:
    warmup = Warmup(700)
    for turn in range(70):
        rows = np.random.default_rng(turn).normal(size=(10, 8)).astype(np.float32)
        warmup.observe(live(rows, np.full(10, float(turn)), session="ab"[turn % 2]))
    reference = warmup.reference()
    assert reference is not None
    assert reference.ordered
    assert reference.session is not None
    assert reference.session.tolist() == ["a"] * 350 + ["b"] * 350
    again = Warmup(700)
    again.restore(warmup.state())
    restored = again.reference()
    assert restored is not None
    assert restored.session is not None
    assert restored.session.tolist() == reference.session.tolist()


def of_file(tmp_path: Path, settings: str, **columns: Array) -> Reference:
    """Return the reference that a policy's check reads of a file with *columns* beside pixels."""
    for name in ("models", "data"):
        shutil.copytree(CONTRACT / name, tmp_path / name)
    pixels = np.zeros((30, 64), np.float32)
    np.savez(tmp_path / "rows.npz", pixels=pixels, **columns)  # type: ignore[arg-type]
    text = (CONTRACT / "quickstart.yaml").read_text()
    text += f"\nchecks:\n  - drift: {{reference: rows.npz, method: pca, {settings}}}\n"
    (tmp_path / "policy.yaml").write_text(text)
    loaded = load_policy(tmp_path / "policy.yaml")
    (check,) = configured(loaded.policy)
    signature = Signature((TensorSpec("pixels", "float32", (None, 64)),), ())
    return file_reference(check, loaded, signature, 0)


@pytest.mark.parametrize(
    "taken",
    [
        np.arange(30) * 1800.0,
        np.array([f"1970-01-01T{half // 2:02}:{half % 2 * 30:02}:00Z" for half in range(30)]),
        np.arange(30) * np.timedelta64(30, "m") + np.datetime64("1970-01-01T00:00"),
    ],
    ids=["seconds", "text", "datetime64"],
)
def test_column_of_a_file_tells_the_hour(tmp_path: Path, taken: Array) -> None:
    found = of_file(tmp_path, "strata: hour, strata_column: taken", taken=taken)
    assert list(found.inputs) == ["pixels"]
    assert Strata("hour").of_reference(found).tolist() == [str(row // 2) for row in range(30)]


def test_column_of_a_file_tells_the_session(tmp_path: Path) -> None:
    device = np.array(["left", "right"] * 15)
    found = of_file(tmp_path, "strata: session, strata_column: device", device=device)
    assert Strata("session").of_reference(found).tolist() == ["left", "right"] * 15


def test_column_that_holds_no_times_is_refused_with_its_place(tmp_path: Path) -> None:
    noon = np.array(["noon"] * 30)
    with pytest.raises(DataError, match=r"checks\[0\]\.drift: strata_column must hold times, got"):
        of_file(tmp_path, "strata: hour, strata_column: taken", taken=noon)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("strata: hour", r"strata must come with strata_column where there is a reference"),
        ("strata_column: taken", r"strata_column must come with strata: hour or session"),
        ("block: 10", r"reference must be in order of time to be taken in blocks, got ordered: f"),
        ("block: 1", r"block must be >= 2, got 1"),
        (
            "block: 9, ordered: true, members: [classes]",
            r"members\[0\] must score rows where there",
        ),
    ],
)
def test_division_that_nothing_tells_is_a_load_error(
    tmp_path: Path, settings: str, message: str
) -> None:
    with pytest.raises(PolicyError, match=rf"policy\.yaml:\d+:\d+: checks\[0\]\.drift\.{message}"):
        of_file(tmp_path, settings)


def test_an_input_divides_rows() -> None:
    rows = Observed(
        [""] * 3, {"device": np.array([7, 7, 9])}, Answers({}), "model", np.zeros(3), ""
    )
    assert Strata("device").of_rows(rows).tolist() == ["7", "7", "9"]
    with pytest.raises(ValueError, match="strata must be hour, session or an input, got 'camera'"):
        Strata("camera").of_rows(rows)


def test_memory_of_live_rows_is_told_once(tmp_path: Path) -> None:
    world = World("  - drift: {method: pca, members: [], warmup_rows: 2000}", tmp_path)
    host = world.host()
    rows = stream(0, 2301)
    world.feed(host, (rows[1:] + rows[:-1]) / 2, batch=100)
    assert host.watches[0].life.phase == "armed"
    said = [text for text in world.texts("drift") if "resemble their neighbours" in text]
    assert len(said) == 1
