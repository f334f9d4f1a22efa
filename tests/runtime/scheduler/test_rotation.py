"""Failures: who is taken out of rotation, who is retried, and who comes back."""

from __future__ import annotations

import pytest
from scheduler_worlds import BEST, FAST, GOOD, job, scheduler

from scanflow_serve.runtime.scheduler.jobs import Batch
from scanflow_serve.runtime.scheduler.scheduler import Scheduler


def begun(core: Scheduler, now: float, rows: int = 1) -> Batch:
    batch = core.submit(job(now, rows=rows), now)
    assert batch is not None
    return batch


def take_out_best(core: Scheduler, now: float) -> Batch:
    """Fail `BEST` once, and let the retry go well."""
    (again,) = core.failed(begun(core, now), now, "NaN in its answer")
    core.done(again, now + 0.003, 3.0)
    return again


def test_failed_batch_is_tried_once_on_the_next_option() -> None:
    core = scheduler()
    batch = begun(core, 0.0)
    (again,) = core.failed(batch, 0.0, "it broke")
    assert (batch.option, again.option, again.attempt) == (BEST, FAST, 2)
    assert again.jobs == batch.jobs


def test_option_whose_batch_goes_well_elsewhere_is_taken_out_with_a_decision() -> None:
    core = scheduler()
    take_out_best(core, 0.0)
    decision = core.journal.decisions[-1]
    assert (decision.before, decision.after, decision.reason) == ("best", "good", "failure")
    assert decision.why == "best failed and pauses for 1 s: NaN in its answer"
    assert decision.figures == {"failures": 1.0, "pause_s": 1.0}
    assert begun(core, 0.1).option is GOOD


def test_paused_option_gets_one_trial_and_returns_if_it_goes_well() -> None:
    core = scheduler()
    take_out_best(core, 0.0)
    core.tick(1.1)
    trial = begun(core, 1.1)
    assert (trial.option, trial.trial) == (BEST, True)
    assert begun(core, 1.1).option is GOOD, "one trial at a time"
    core.done(trial, 1.12, 20.0)
    assert core.health("best").closed
    decision = core.journal.decisions[-1]
    assert (decision.reason, decision.after) == ("recovery", "best")


def test_each_failed_trial_doubles_the_pause_up_to_a_minute() -> None:
    core = scheduler()
    take_out_best(core, 0.0)
    pauses, now = [], 0.0
    for _ in range(8):
        now = core.health("best").open_until
        core.tick(now)
        trial = begun(core, now)
        assert trial.trial
        (again,) = core.failed(trial, now, "still broken")
        core.done(again, now, 3.0)
        pauses.append(core.health("best").open_until - now)
    assert pauses == pytest.approx([2, 4, 8, 16, 32, 60, 60, 60])


def test_calls_that_ran_beside_a_failed_one_do_not_lengthen_the_pause() -> None:
    core = scheduler()
    first, second = begun(core, 0.0), begun(core, 0.0)
    (again,) = core.failed(first, 0.0, "it broke")
    core.done(again, 0.003, 3.0)
    (late,) = core.failed(second, 0.004, "it broke too")
    core.done(late, 0.007, 3.0)
    assert core.health("best").open_until == pytest.approx(1.003)


def test_call_that_began_before_the_failure_does_not_end_the_pause() -> None:
    core = scheduler()
    first, second = begun(core, 0.0), begun(core, 0.0)
    (again,) = core.failed(first, 0.0, "it broke")
    core.done(again, 0.003, 3.0)
    core.done(second, 0.02, 20.0)
    assert not core.health("best").closed


def test_last_option_is_never_taken_out() -> None:
    core = scheduler((BEST,))
    for attempt in range(10):
        now = attempt / 10
        batch = begun(core, now)
        assert core.failed(batch, now, "it broke") == []
    assert core.health("best").closed
    assert begun(core, 1.0).option is BEST


def test_option_is_taken_out_after_three_failures_in_a_row_though_nothing_did_better() -> None:
    core = scheduler((BEST, FAST))
    for attempt in range(3):
        now = attempt / 10
        (again,) = core.failed(begun(core, now), now, "it broke")
        assert core.failed(again, now, "so did this") == []
    assert [core.health(name).closed for name in ("best", "fast")] == [False, True]


def test_poison_row_fails_alone() -> None:
    core = scheduler((BEST, FAST), deadline_s=1)
    jobs = [job(0.0, 1) for _ in range(4)]
    for each in jobs:
        core.hold(each, 0.0)
    batches = [core.next(0.0), core.next(0.0)]
    assert all(batches)
    batch = next(b for b in batches if b is not None)
    (again,) = core.failed(batch, 0.0, "poison")
    alone = core.failed(again, 0.0, "poison")
    assert [each.jobs for each in alone] == [[each] for each in batch.jobs]
    poisoned, *rest = alone
    assert core.failed(poisoned, 0.0, "poison") == []
    for each in rest:
        core.done(each, 0.003, 3.0)
    assert core.health("best").closed
    assert core.health("fast").closed


def test_retry_may_use_more_cores_than_there_are_and_gives_them_back() -> None:
    core = scheduler((BEST, FAST), cores=1, deadline_s=1)
    for _ in range(3):
        core.hold(job(0.0, 1), 0.0)
    batch = core.next(0.0)
    assert batch is not None
    (again,) = core.failed(batch, 0.0, "it broke")
    alone = core.failed(again, 0.0, "so did this")
    assert core.next(0.0) is None
    for each in alone:
        core.done(each, 0.003, 3.0)
    assert core.idle


def test_batch_that_ended_cannot_end_again() -> None:
    core = scheduler()
    batch = begun(core, 0.0)
    core.done(batch, 0.02, 20.0)
    with pytest.raises(ValueError, match="best: a batch must run to end, got one that does not"):
        core.done(batch, 0.02, 20.0)


def test_crashed_variant_pauses_longer_for_each_time_that_it_crashed_before() -> None:
    core = scheduler()
    core.suspend("best", 0.0, "the process died in it", earlier=3)
    assert core.health("best").open_until == 8.0
    assert core.journal.decisions[-1].why == (
        "best failed and pauses for 8 s: the process died in it"
    )
    assert begun(core, 0.1).option is GOOD


def test_variant_is_out_of_all_lanes_at_once() -> None:
    core = scheduler()
    core.carry("q", (BEST, GOOD), 0.0, reason="loaded", why="test")
    take_out_best(core, 0.0)
    batch = core.submit(job(0.1, lane="q"), 0.1)
    assert batch is not None
    assert batch.option is GOOD


def test_failure_while_pinned_is_answered_by_another_option() -> None:
    core = scheduler()
    core.bound(0.0, goal=None, only=lambda option: option is BEST, reason="pin", why="operator")
    (again,) = core.failed(begun(core, 0.0), 0.0, "it broke")
    assert again.option is FAST
