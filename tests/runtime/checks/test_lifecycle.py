from __future__ import annotations

import json

import pytest

from scanflow_serve.runtime.checks.lifecycle import RESTED_ROWS, Hush, Life, worst
from scanflow_serve.runtime.checks.protocol import Evidence


def armed() -> Life:
    return Life().calibrating(1.0).armed(2.0)


def test_check_is_off_until_it_is_armed() -> None:
    life = Life().collecting("collects live rows: 10 of 2000")
    assert (life.phase, life.state) == ("collecting", "off")
    assert life.calibrating(1.0).state == "off"
    assert (armed().phase, armed().state) == ("armed", "ok")


def test_reading_before_it_is_armed_changes_nothing() -> None:
    assert Life().read(5.0, 10, 3.0) == Life()


def test_alarm_is_latched_when_the_wealth_falls_again() -> None:
    life = armed().read(1.0, 1, 3.0)
    assert life.state == "alarm"
    assert life.read(0.0, 1000, 4.0) == life
    assert life.since == 3.0


def test_warning_ends_by_itself_and_does_not_flicker() -> None:
    warned = armed().read(0.2, 1, 3.0)
    assert warned.state == "warn"
    assert warned.read(0.05, 1, 4.0).state == "warn"
    assert warned.read(0.005, 1, 5.0).state == "ok"


def test_only_an_alarm_can_be_acknowledged() -> None:
    with pytest.raises(ValueError, match="state must be alarm, got 'ok'"):
        armed().acknowledge("ann", "seen", 5.0)


def test_acknowledged_check_is_well_after_a_quiet_stretch_and_alarms_anew_without_it() -> None:
    seen = armed().read(2.0, 1, 3.0).acknowledge("ann", "lamp replaced", 4.0)
    assert seen.state == "acknowledged"
    assert seen.acknowledged is not None
    assert (seen.acknowledged.who, seen.acknowledged.reason) == ("ann", "lamp replaced")
    assert seen.read(0.0, RESTED_ROWS - 1, 5.0).state == "acknowledged"
    assert seen.read(0.0, RESTED_ROWS, 5.0).state == "ok"
    again = seen.read(1.5, 1, 5.0)
    assert (again.state, again.alarms, again.acknowledged) == ("alarm", 2, None)


def test_rebase_sends_it_back_to_collect() -> None:
    life = armed().read(2.0, 1, 3.0).rebase("ann", "new camera", 9.0)
    assert (life.phase, life.state, life.alarms) == ("collecting", "off", 1)


def test_disabled_check_stays_off() -> None:
    life = armed().disable("RuntimeError: broken", 3.0)
    assert life.read(9.0, 1, 4.0) == life
    assert (life.state, life.why) == ("off", "RuntimeError: broken")


def test_life_survives_json() -> None:
    evidence = Evidence("ks", "id", 1.5, ("a", "b"), ({"name": "x", "moved": 0.5},), {"p": 0.1})
    life = armed().read(2.0, 1, 3.0).explained(evidence).acknowledge("ann", "seen", 4.0)
    assert Life.from_json(json.loads(json.dumps(life.to_json()))) == life


@pytest.mark.parametrize(
    ("states", "gravest"),
    [((), "off"), (("ok", "off"), "ok"), (("warn", "acknowledged"), "warn"), (("alarm",), "alarm")],
)
def test_model_is_as_ill_as_its_worst_check(states: tuple[str, ...], gravest: str) -> None:
    assert worst(states) == gravest  # type: ignore[arg-type]


def test_alarm_is_told_once_and_not_within_the_pause() -> None:
    hush = Hush(cooldown_s=60)
    first = armed().read(1.0, 1, 100.0)
    assert [hush.news(first, at) for at in (100.0, 101.0, 999.0)] == [True, False, False]
    second = first.acknowledge("ann", "seen", 1000.0).read(1.0, 1, 1001.0)
    third = second.acknowledge("ann", "seen", 1002.0).read(1.0, 1, 1003.0)
    assert hush.news(second, 1001.0)
    assert not hush.news(third, 1003.0)
    assert hush.news(third, 1062.0)
    assert not hush.news(armed(), 5000.0)
