"""One lane: the options that may answer its requests, in order, and what they cost at present."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from scanflow_serve.runtime.scheduler.health import Health
from scanflow_serve.runtime.scheduler.jobs import GOALS, Goal, Option
from scanflow_serve.runtime.scheduler.mix import Mix, best_mix
from scanflow_serve.runtime.scheduler.rates import Rate
from scanflow_serve.runtime.scheduler.tuning import Tuning

MOST_CREDIT = 64.0  # rows; what slack did not allow is not caught up for ever
CALL_SHARE = 0.5  # of a deadline that one call may take, so that a request can wait for another


class Runner:
    """An option in a lane, with its variant's health."""

    __slots__ = ("curve", "health", "option", "threads")

    def __init__(self, option: Option, health: Health, cores: int) -> None:
        self.option = option
        self.health = health
        self.curve = option.curve
        self.threads = min(option.threads, cores)

    def p95_ms(self, rows: int) -> float:
        """Return the p95 latency of *rows* rows as things run at present, in ms."""
        return self.curve.p95_ms(rows) * self.health.ratio

    def p50_ms(self, rows: int) -> float:
        """Return the median latency of *rows* rows as things run at present, in ms."""
        return self.curve.p50_ms(rows) * self.health.ratio


class Lane:
    """What one public name's requests may be answered by.

    Attributes:
        last: Option that answered last.
        nominal: Option that answers where time allows.
        rate: Rows per second.
        slack_s: Mean of what requests have left when they arrive, in s.
    """

    def __init__(self, name: str, cores: int, deadline_s: float, tuning: Tuning, now: float):
        self.name = name
        self.rate = Rate(now, tuning.fast_s, tuning.slow_s)
        self.slack_s = deadline_s
        self.last: Option | None = None
        self.nominal: Option | None = None
        self.runners: tuple[Runner, ...] = ()
        self._cores = cores
        self._tuning = tuning
        self._only: Callable[[Option], bool] | None = None
        self._only_goal: Goal | None = None
        self._orders: dict[Goal, tuple[Runner, ...]] = dict.fromkeys(GOALS, ())
        self._mixes: dict[Goal, Mix | None] = {}
        self._credit = 0.0
        self._planned_load = -1.0
        self._thrifty: Runner | None = None

    def carry(self, options: Sequence[Option], health: Mapping[str, Health]) -> None:
        """Answer by *options* from now on; *health* by variant."""
        self.runners = tuple(
            Runner(option, health[option.variant], self._cores) for option in options
        )
        self._planned_load = -1.0

    def restrict(self, only: Callable[[Option], bool] | None, goal: Goal | None = None) -> None:
        """Answer by the options that *only* admits; None: by all, as where it admits none.

        Args:
            goal: Restrict the order by this goal alone; None: all orders.
        """
        self._only = only
        self._only_goal = goal

    def refresh(self, now: float) -> None:
        """Bring the orders up to date with what is in rotation."""
        able = [runner for runner in self.runners if runner.health.may_answer(now)]
        able = able or list(self.runners)  # the last one is not taken out: it may recover
        bound = able
        if self._only is not None:
            bound = [runner for runner in able if self._only(runner.option)] or able
        for goal in GOALS:
            among = bound if self._only_goal in (None, goal) else able
            ordered = sorted(among, key=lambda runner: -runner.option.worth[goal])
            self._orders[goal] = tuple(ordered)
        self._thrifty = min(able, key=self.row_cost, default=None)
        self._planned_load = -1.0

    def order(self, goal: Goal) -> tuple[Runner, ...]:
        """Return what may answer, best first by *goal*."""
        return self._orders[goal]

    @property
    def thrifty(self) -> Runner | None:
        """Return the option on which a row costs the host least; None where none is loaded."""
        return self._thrifty

    def call_rows(self, runner: Runner) -> int:
        """Return the rows that *runner* best takes in one call, within its share of a deadline."""
        limit_ms = self.slack_s * 1000 * CALL_SHARE
        rows = runner.curve.thrifty_batch
        while rows > 1 and runner.p95_ms(rows) > limit_ms:
            rows = (rows + 1) // 2
        return rows

    def row_cost(self, runner: Runner) -> float:
        """Return what a row costs the whole host on *runner*, in ms."""
        rows = self.call_rows(runner)
        used = runner.p50_ms(rows) / rows * runner.threads
        return (used + self._tuning.overhead_ms) / self._cores

    def plan(self, load: float) -> bool:
        """Plan the mix for the present rate; return whether it changed.

        Args:
            load: Rows per second to plan for; a change of less than `Tuning.least_change` of it
                changes nothing.
        """
        if abs(load - self._planned_load) <= self._tuning.least_change * max(load, 1e-9):
            return False
        self._planned_load = load
        self._thrifty = min(self._orders["objective"], key=self.row_cost, default=None)
        before = dict(self._mixes)
        capacity = self._tuning.target_load * 1000 / load if load > 0 else float("inf")
        for goal, runners in self._orders.items():
            costs = [self.row_cost(runner) for runner in runners]
            worth = [runner.option.worth[goal] for runner in runners]
            self._mixes[goal] = best_mix(worth, costs, capacity) if runners else None
        return before != self._mixes

    def mix(self, goal: Goal) -> Mix | None:
        """Return the mix that the present rate affords, None before the first plan."""
        return self._mixes.get(goal)

    def main(self, goal: Goal) -> Runner | None:
        """Return what most requests start from; None where nothing is loaded."""
        mix, order = self._mixes.get(goal), self._orders[goal]
        if mix is None:
            return order[0] if order else None
        return order[mix.upper if mix.share >= 0.5 else mix.lower]

    def start(self, goal: Goal, rows: int) -> int:
        """Return the index, in `order`, of the option to start from for *rows* more rows.

        Shares are kept by error diffusion: no randomness, no long run of either.
        """
        mix = self._mixes.get(goal)
        if mix is None:
            return 0
        if mix.share >= 1.0 or self._credit + mix.share * rows >= rows:
            return mix.upper
        return mix.lower

    def took(self, goal: Goal, index: int, rows: int) -> None:
        """Count *rows* answered by the option at *index* of `order`."""
        mix = self._mixes.get(goal)
        if mix is not None and mix.share < 1.0:
            change = mix.share * rows - (rows if index <= mix.upper else 0)
            self._credit = min(max(self._credit + change, -MOST_CREDIT), MOST_CREDIT)
