from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checks_worlds import FIRST, SECOND, World, inverted, noisy, policy_file, report, states, stream

from scanflow_serve.policies.errors import PolicyError, UsageError
from scanflow_serve.runtime.checks import registry
from scanflow_serve.runtime.checks.batches import batches
from scanflow_serve.runtime.checks.configuration import require_run_lengths
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.tap import Tap

DRIFT = "  - drift: {method: confidence, reference: data/digits-train.npz, members: [classes]}"
BALANCE = "  - balance: {reference: data/digits-validation.npz, target: label}"
ANOMALY = "  - anomaly: {method: entropy, reference: data/digits-train.npz}"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_checks_with_a_reference_are_armed_at_the_start(state: Path) -> None:
    host = World(f"{DRIFT}\n{BALANCE}\n{ANOMALY}", state).host()
    assert set(report(host).values()) == {("armed", "ok")}
    assert host.run_length == 10_000


def test_clean_stream_stays_quiet_and_a_drifted_one_alarms(state: Path) -> None:
    world = World(f"{DRIFT}\n{BALANCE}", state)
    host = world.host()
    world.feed(host, stream(1, 600))
    assert set(states(host)) <= {"ok", "warn"}
    world.feed(host, inverted(stream(2, 100)))
    drift = host.watch("drift")
    assert drift is not None
    assert drift.life.state == host.state == "alarm"


def test_evidence_of_windows_tells_how_many_features_moved(state: Path) -> None:
    checks = "  - drift: {method: ks, reference: data/digits-train.npz, input: pixels, window: 50}"
    world = World(checks, state)
    host = world.host()
    world.feed(host, inverted(stream(1, 400)))
    evidence = host.watches[0].life.evidence
    assert evidence is not None
    assert 30 <= evidence.figures["ks_features_moved"] <= 64


def test_evidence_names_detector_beginning_rows_and_features(state: Path) -> None:
    world = World(DRIFT, state)
    host = world.host()
    world.feed(host, stream(1, 200))
    before = world.clock.now
    world.feed(host, inverted(stream(2, 100)))
    evidence = host.watches[0].life.evidence
    assert evidence is not None
    assert evidence.detector == "confidence"
    assert evidence.since_at is not None
    assert abs(evidence.since_at - before) <= 3
    assert 0 < len(evidence.rows) <= 20
    assert evidence.features[0]["moved"] > 0.4
    edges = evidence.features[0]["edges"]
    assert len(edges) - 1 == len(evidence.features[0]["before"]) > 1


def test_balance_names_the_class_that_came_more_often(state: Path) -> None:
    world = World(BALANCE, state)
    host = world.host()
    rows = stream(1, 1500)
    classes = world.loaded[FIRST].run({"pixels": rows})["logits"].argmax(axis=1)
    world.feed(host, rows[classes == 3])
    evidence = host.watches[0].life.evidence
    assert evidence is not None
    feature = evidence.features[0]
    assert feature["name"] == "class"
    assert int(np.argmax(feature["after"])) == 3


def test_alarm_is_told_with_its_cause(state: Path) -> None:
    world = World(DRIFT, state)
    world.feed(world.host(), inverted(stream(2, 100)))
    told = [event for event in world.events if event.details.get("state") == "alarm"]
    assert len(told) == 1
    assert told[0].kind == "check"
    assert told[0].source == "drift"
    assert told[0].details["detector"] == "confidence"


def test_acknowledged_alarm_re_arms(state: Path) -> None:
    world = World(DRIFT, state)
    host = world.host()
    world.feed(host, inverted(stream(2, 100)))
    host.acknowledge("drift", "ann", "lens cleaned")
    assert states(host) == ["acknowledged"]
    assert host.standing.wealth < host.run_length
    world.feed(host, stream(3, 450))
    assert states(host) == ["ok"]
    world.feed(host, inverted(stream(4, 100)))
    assert states(host) == ["alarm"]


def test_acknowledging_an_unknown_or_quiet_check_is_refused(state: Path) -> None:
    host = World(DRIFT, state).host()
    with pytest.raises(KeyError, match="typo"):
        host.acknowledge("typo", "ann", "")
    with pytest.raises(ValueError, match="must be alarm, got 'ok'"):
        host.acknowledge("drift", "ann", "")


def test_hundred_forced_switches_on_a_clean_stream_raise_no_alarm(state: Path) -> None:
    world = World(f"{DRIFT}\n{BALANCE}", state)
    host = world.host()
    rows = stream(5, 400)
    for switch in range(100):
        part = rows[switch * 4 : switch * 4 + 4]
        world.feed(host, part, variant=(FIRST, SECOND)[switch % 2])
    assert set(states(host)) <= {"ok", "warn"}


def test_answers_of_a_variant_judged_by_another_would_alarm(state: Path) -> None:
    """What the test above rests on: the two variants differ much in how sure they are."""
    world = World(DRIFT, state)
    del world.loaded[SECOND]
    host = world.host()
    other = World(DRIFT, state).loaded[SECOND]
    world.loaded[FIRST] = other
    world.feed(host, stream(5, 500))
    assert states(host) == ["alarm"]


def test_variant_that_is_loaded_later_is_calibrated_when_it_first_answers(state: Path) -> None:
    world = World(DRIFT, state)
    late = world.loaded.pop(SECOND)
    host = world.host()
    world.feed(host, stream(1, 50))
    world.loaded[SECOND] = late
    world.feed(host, stream(2, 300), variant=SECOND)
    assert states(host) == ["ok"]
    world.feed(host, inverted(stream(3, 200)), variant=SECOND)
    assert states(host) == ["alarm"]


def test_model_alarms_when_all_together_reach_what_none_has_alone(state: Path) -> None:
    second = DRIFT.replace("drift: {", "drift: {name: again, ")
    world = World(f"{DRIFT}\n{second}", state)
    host = world.host()
    rows = noisy(stream(2, 3000), 0, sigma=3.5)
    for at in range(0, len(rows), 5):
        world.feed(host, rows[at : at + 5])
        if host.state == "alarm":
            break
    causes = [watch for watch in host.watches if watch.life.state == "alarm"]
    assert len(causes) == 1
    assert causes[0].score < host.run_length <= host.standing.wealth


def test_state_survives_a_restart(state: Path) -> None:
    world = World(f"{DRIFT}\n{BALANCE}", state)
    host = world.host()
    world.feed(host, noisy(stream(2, 60), 0))
    wealth = [watch.check.result().wealth for watch in host.watches]
    host.checkpoint(force=True)
    again = World(f"{DRIFT}\n{BALANCE}", state)
    resumed = again.host()
    assert [watch.rows for watch in resumed.watches] == [60, 60]
    assert [watch.check.result().wealth for watch in resumed.watches] == pytest.approx(wealth)
    assert not again.texts("drift")


def test_alarm_is_latched_over_a_restart(state: Path) -> None:
    world = World(DRIFT, state)
    world.feed(world.host(), inverted(stream(2, 100)))
    resumed = World(DRIFT, state).host()
    assert states(resumed) == ["alarm"]
    assert resumed.watches[0].life.evidence is not None


def test_other_settings_begin_anew(state: Path) -> None:
    world = World(DRIFT, state)
    world.feed(world.host(), inverted(stream(2, 100)))
    assert states(World(DRIFT.replace("confidence", "entropy"), state).host()) == ["ok"]


def test_without_a_reference_live_traffic_teaches_normal_times(state: Path) -> None:
    world = World("  - brightness: {warmup_rows: 700}", state)
    host = world.host()
    assert report(host) == {"brightness": ("collecting", "off")}
    world.feed(host, stream(1, 690))
    assert host.watches[0].life.why == "collects live rows: 690 of 700"
    world.feed(host, stream(2, 20))
    assert report(host) == {"brightness": ("armed", "ok")}
    world.feed(host, inverted(stream(3, 100)))
    assert states(host) == ["alarm"]


def test_traffic_that_moves_is_not_learned_as_normal(state: Path) -> None:
    world = World("  - brightness: {warmup_rows: 700}", state)
    host = world.host()
    world.feed(host, stream(1, 350))
    world.feed(host, inverted(stream(2, 350)))
    assert report(host) == {"brightness": ("collecting", "off")}
    assert "not stationary: pixels moved" in host.watches[0].life.why


def test_live_rows_must_span_the_time_asked_for(state: Path) -> None:
    world = World("  - brightness: {warmup_rows: 700, min_span_s: 100}", state)
    host = world.host()
    world.feed(host, stream(1, 800))  # a second a request of 10 rows: 80 s
    assert "over 100 s" in host.watches[0].life.why
    world.feed(host, stream(2, 400))
    assert report(host) == {"brightness": ("armed", "ok")}


def test_collected_rows_survive_a_restart(state: Path) -> None:
    world = World("  - brightness: {warmup_rows: 700}", state)
    host = world.host()
    world.feed(host, stream(1, 400))
    host.checkpoint(force=True)
    again = World("  - brightness: {warmup_rows: 700}", state)
    resumed = again.host()
    again.feed(resumed, stream(2, 300))
    assert report(resumed) == {"brightness": ("armed", "ok")}


def test_rebased_check_learns_anew_from_live_traffic_and_stays_so_over_a_restart(
    state: Path,
) -> None:
    checks = DRIFT.replace("drift: {", "drift: {warmup_rows: 700, ")
    world = World(checks, state)
    host = world.host()
    world.feed(host, inverted(stream(2, 100)))
    host.rebase("drift", "ann", "the camera is inverted for good")
    assert report(host) == {"drift": ("collecting", "off")}
    world.feed(host, inverted(stream(3, 700)))
    assert report(host) == {"drift": ("armed", "ok")}
    world.feed(host, inverted(stream(4, 200)))
    assert states(host) == ["ok"]
    host.checkpoint(force=True)
    again = World(checks, state)
    resumed = again.host()
    again.feed(resumed, inverted(stream(5, 100)))
    assert states(resumed) == ["ok"]


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("raises", "RuntimeError: boom"),
        ("hangs", "took longer than 0.3 s"),
        ("leaks", "keeps more"),
        ("shapeless", "score must be one number a row"),
        ("verdictless", "flagged must be an array of shape (10,), got shape (11,)"),
        ("numberless", "statistic must be a number, got nan"),
        ("stateless", "state must map names to arrays of numbers or text, got object"),
    ],
)
def test_check_that_fails_is_disabled_with_an_event_and_the_others_go_on(
    state: Path, kind: str, why: str
) -> None:
    world = World(f"  - {kind}: {{reference: data/digits-train.npz}}\n{DRIFT}", state, limit_s=0.3)
    host = world.host()
    world.feed(host, stream(1, 200))
    host.checkpoint(force=True)
    failed, drift = host.watches
    assert (failed.life.state, failed.life.disabled) == ("off", True)
    assert any(f"disabled: {why}" in text or why in text for text in world.texts(kind))
    assert drift.rows == 200
    world.feed(host, inverted(stream(2, 100)))
    assert drift.life.state == "alarm"


def test_explicit_run_length_beyond_the_reference_is_refused_at_load(state: Path) -> None:
    checks = DRIFT.replace("drift: {", "drift: {expected_run_length: 100000, ")
    world = World(checks, state)
    place = r"quickstart\.yaml:\d+:\d+: checks\[0\]\.drift\.expected_run_length "
    with pytest.raises(PolicyError, match=rf"{place}must be <= 50 x .*\(reference\)\. Give 2000"):
        require_run_lengths(policy_file(world.checks))


@pytest.mark.parametrize("setting", ["", "members: [confidence], ", "method: entropy, "])
def test_run_length_beyond_the_validation_rows_is_refused_at_load(
    state: Path, setting: str
) -> None:
    asked = f"drift: {{{setting}expected_run_length: 14000, "  # 270 of 300 rows honour 13,500
    checks = f"  - {asked}reference: data/digits-train.npz}}"
    with pytest.raises(PolicyError, match=r"must be <= 50 x 270 .*\(validation\)\. Give 280"):
        require_run_lengths(policy_file(checks))
    require_run_lengths(policy_file(checks.replace("14000", "13500")))


def test_run_length_of_inputs_alone_asks_nothing_of_the_validation_rows(state: Path) -> None:
    asked = "drift: {method: pca, members: [], expected_run_length: 14000, "
    require_run_lengths(policy_file(f"  - {asked}reference: data/digits-train.npz}}"))


def test_smallest_run_length_asked_for_is_the_models(state: Path) -> None:
    checks = f"{DRIFT}\n{BALANCE}".replace("drift: {", "drift: {expected_run_length: 3000, ")
    assert World(checks, state).host().run_length == 3000


def test_facts_are_what_conditions_see(state: Path) -> None:
    world = World(DRIFT, state)
    host = world.host()
    world.feed(host, stream(1, 10))
    assert set(host.facts()) == {"drift"}
    facts = host.facts()["drift"]
    assert (facts["state"], facts["phase"]) == ("ok", "armed")
    assert facts["score"] > 0
    assert 0 < facts["p_val"] <= 1


def test_setting_that_a_third_partys_check_does_not_take_names_the_place(state: Path) -> None:
    with pytest.raises(UsageError, match=r"checks\[0\]\.brightness: settings must be brightness's"):
        World("  - brightness: {windw: 3}", state).host()


def test_check_whose_package_can_not_be_imported_is_told_with_its_place(state: Path) -> None:
    rule = (
        r"checks\[0\]\.unimportable: unimportable must be importable, got ModuleNotFoundError: "
        r".*'sample_absent'\. Install sample-checks with all that it needs\."
    )
    with pytest.raises(UsageError, match=rule):
        World("  - unimportable: {}", state).host()


def test_third_partys_check_is_found_and_judged_like_ours(state: Path) -> None:
    assert {"anomaly", "drift", "balance", "brightness"} <= registry.found().keys()
    world = World("  - brightness: {reference: data/digits-train.npz}", state)
    host = world.host()
    world.feed(host, stream(1, 300))
    assert states(host) == ["ok"]
    world.feed(host, inverted(stream(2, 60)))
    assert states(host) == ["alarm"]


def test_rows_without_a_number_are_flagged_and_not_bet_on(state: Path) -> None:
    world = World("  - brightness: {reference: data/digits-train.npz}", state)
    host = world.host()
    rows = stream(1, 100)
    rows[::2] = np.nan
    world.feed(host, rows)
    assert set(states(host)) <= {"ok", "warn"}
    verdicts = host.watches[0].observe(batches([world.answered(np.full((2, 64), np.nan))])[0])
    assert verdicts is not None
    assert verdicts.p_val is not None
    assert verdicts.flagged.all()
    np.testing.assert_allclose(verdicts.p_val, 1 / 301)


@pytest.fixture
def running(state: Path) -> Iterator[tuple[World, Host]]:
    world = World(DRIFT, state)
    host = world.host()
    host.start()
    yield world, host
    host.close()


def test_worker_thread_sees_what_the_tap_gets(running: tuple[World, Host]) -> None:
    world, host = running
    seen = threading.Event()
    watch = host.watches[0]
    for _ in range(30):
        tapped = world.answered(inverted(stream(1, 10)))
        host.tap.put(*tapped[:6])
    while watch.life.state != "alarm":
        seen.wait(0.01)
    host.close()
    assert host.rows == 300


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from checks_worlds import World, stream
world = World(sys.argv[3], Path(sys.argv[2]), cost_share=1.0)
host = world.host()
rows = stream(1, 497)
for at in range(100_000):
    world.feed(host, rows[at % 400 : at % 400 + 1], batch=1)
    print(at + 1, flush=True)
"""


def test_kill_9_loses_at_most_one_checkpoint(state: Path) -> None:
    folder = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", KILLED, folder, str(state), DRIFT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        requests = 0
        for line in process.stdout:
            requests = int(line)
            if requests >= 350:
                process.send_signal(signal.SIGKILL)
                break
    resumed = World(DRIFT, state).host()
    assert resumed.watches[0].rows >= requests - 100


def test_tap_that_is_full_costs_observations_only(state: Path) -> None:
    tap = Tap(most_rows=20)
    world = World(DRIFT, state)
    for _ in range(5):
        tap.put(*world.answered(stream(1, 10))[:6])
    assert (tap.waiting_rows, tap.dropped_requests) == (20, 3)


def test_check_on_answers_alone_learns_from_validation(state: Path) -> None:
    world = World("  - anomaly: {method: confidence}", state)
    host = world.host()
    assert report(host) == {"anomaly": ("armed", "ok")}
    world.feed(host, stream(1, 100))
    assert host.watches[0].score < 0.1


def test_check_on_answers_without_validation_learns_from_live_rows(state: Path) -> None:
    world = World("  - anomaly: {method: confidence, warmup_rows: 700}", state)
    host = world.host(validation=False)
    assert report(host) == {"anomaly": ("collecting", "off")}
    world.feed(host, stream(1, 700))
    assert report(host) == {"anomaly": ("armed", "ok")}
