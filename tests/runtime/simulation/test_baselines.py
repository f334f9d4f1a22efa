from __future__ import annotations

from collections import Counter

import pytest
from simulation_worlds import FAMILY, FAST, MIDDLE, SLOW, setting

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.scheduler.jobs import Job
from scanflow_serve.runtime.simulation.arrivals import drawn, parse
from scanflow_serve.runtime.simulation.baselines import SlackOnly, rate_thresholds
from scanflow_serve.runtime.simulation.strategy import Strategy
from scanflow_serve.runtime.simulation.world import Machine, replay

WORLD = setting()


def variants(text: str, strategy: Strategy) -> Counter[str]:
    """Return how often each variant answered in the second half of a load of 10 s."""
    log = replay(
        drawn(parse(f"{text},seconds=10"), 1), strategy, Machine(2), lane="digits", deadline_s=0.1
    )
    return Counter(o.option.variant for o in log.outcomes if o.option and o.arrival.at > 5)


@pytest.mark.parametrize(("rate", "variant"), [(20, "slow"), (250, "middle"), (800, "fast")])
def test_rate_thresholds_take_the_best_that_has_room_for_the_rate(rate: int, variant: str) -> None:
    assert set(variants(f"poisson:rate={rate}", rate_thresholds(WORLD))) == {variant}


def test_rate_thresholds_take_the_fastest_where_nothing_has_room() -> None:
    assert set(variants("poisson:rate=2500", rate_thresholds(WORLD))) == {"fast"}


def test_slack_only_takes_the_most_accurate_that_the_head_has_time_for() -> None:
    strategy = SlackOnly(WORLD)
    for slack_s, expected in ((0.1, SLOW), (0.010, MIDDLE)):
        batch = strategy.submit(Job("digits", 1, 0.0, slack_s), 0.0)
        assert batch is not None
        assert batch.option is expected


def test_slack_only_does_not_look_at_those_behind() -> None:
    """The head has time for the slow variant; taking it dooms the two that wait."""
    strategy = SlackOnly(setting(cores=1))
    running = strategy.submit(Job("digits", 1, 0.0, 0.1), 0.0)
    assert running is not None
    for due in (0.055, 0.056, 0.057):
        assert strategy.submit(Job("digits", 1, 0.0, due), 0.0) is None
    strategy.done(running, 0.019, 19.0)
    batch = strategy.next(0.019)
    assert batch is not None
    assert (batch.option, len(batch.jobs)) == (SLOW, 1)


def test_slack_only_drops_what_can_no_more_be_met_when_it_comes_first() -> None:
    strategy = SlackOnly(setting(cores=1))
    running = strategy.submit(Job("digits", 1, 0.0, 0.1), 0.0)
    doomed = Job("digits", 1, 0.0, 0.010)
    assert running is not None
    assert strategy.submit(doomed, 0.0) is None
    strategy.done(running, 0.019, 19.0)
    assert strategy.next(0.019) is None
    assert [(job, error.status) for job, error in strategy.dropped] == [(doomed, 504)]


def test_slack_only_refuses_where_the_queue_is_full() -> None:
    strategy = SlackOnly(setting(cores=1, max_queue=1))
    strategy.submit(Job("digits", 1, 0.0, 0.1), 0.0)
    strategy.submit(Job("digits", 1, 0.0, 0.1), 0.0)
    with pytest.raises(RequestError, match=r"The queue is full: scheduling.max_queue is 1"):
        strategy.submit(Job("digits", 1, 0.0, 0.1), 0.0)


def test_setting_of_one_option_differs_in_nothing_else() -> None:
    alone = WORLD.only(FAST)
    assert alone.options == (FAST,)
    assert alone == setting((FAST,))
    assert WORLD.options == FAMILY
