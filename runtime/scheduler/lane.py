"""One lane: the options that may answer its requests, in order, and what they cost at present."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from scanflow_serve.runtime.scheduler.headroom import planned_load
from scanflow_serve.runtime.scheduler.health import Health
from scanflow_serve.runtime.scheduler.jobs import GOALS, Goal, Option
from scanflow_serve.runtime.scheduler.mix import Mix, best_mix
from scanflow_serve.runtime.scheduler.rates import Rate
from scanflow_serve.runtime.scheduler.tuning import Tuning

MOST_CREDIT = 64.0  # rows; what slack did not allow is not caught up for ever
# Weights of one request in the moving slack. Calls must suit the tight deadlines of a mixture:
# an expectile, which a constant deadline meets exactly.
TIGHTER, LOOSER = 0.1, 0.01
STAYS = 0.1  # of a share: how far below one half the nominal option may fall and stay


class Runner:
    """An option in a lane, with its variant's health.

    Attributes:
        call_rows: Rows that it best takes in one call, within its share of a deadline.
        row_cost_ms: What a row costs the whole host then.
    """

    __slots__ = ("call_rows", "curve", "health", "option", "row_cost_ms", "threads")

    def __init__(self, option: Option, health: Health, cores: int) -> None:
        self.option = option
        self.health = health
        self.curve = option.curve
        self.threads = min(option.threads, cores)
        self.call_rows = 1
        self.row_cost_ms = 0.0

    def p95_ms(self, rows: int) -> float:
        """Return the p95 latency of *rows* rows as things run at present, in ms."""
        health = self.health
        return self.curve.p95_ms(rows) * health.ratio * health.tail

    def p50_ms(self, rows: int) -> float:
        """Return the median latency of *rows* rows as things run at present, in ms."""
        return self.curve.p50_ms(rows) * self.health.ratio

    def refresh(self, limit_ms: float, cores: int, overhead_ms: float) -> None:
        """Bring `call_rows` and `row_cost_ms` up to date, for calls of up to *limit_ms*."""
        rows = self.curve.thrifty_batch
        while rows > 1 and self.p95_ms(rows) > limit_ms:
            rows = (rows + 1) // 2
        self.call_rows = rows
        self.row_cost_ms = (self.p50_ms(rows) / rows * self.threads + overhead_ms) / cores


class Lane:
    """What one public name's requests may be answered by.

    Attributes:
        last: Option that answered last.
        nominal: Option that answers where time allows.
        strayed: `last` answered for want of time.
        rate: Rows per second.
        slack_s: What requests have left when they arrive, in s; leans to the tight ones.
        usual_rows: Of a request that nobody has read; the last one's that was.
    """

    def __init__(self, name: str, cores: int, deadline_s: float, tuning: Tuning, now: float):
        self.name = name
        self.rate = Rate(now, tuning.fast_s, tuning.slow_s)
        self.slack_s = deadline_s
        self.usual_rows = 1
        self.last: Option | None = None
        self.nominal: Option | None = None
        self.strayed = False
        self.runners: tuple[Runner, ...] = ()
        self._cores = cores
        self._tuning = tuning
        self._only: Callable[[Option], bool] | None = None
        self._only_goal: Goal | None = None
        self._thrifty: dict[Goal, Runner | None] = dict.fromkeys(GOALS)
        self._orders: dict[Goal, tuple[Runner, ...]] = dict.fromkeys(GOALS, ())
        self._mixes: dict[Goal, Mix] = {}
        self._credit = 0.0
        self._planned: tuple[float, ...] = ()  # what each option would take of the share

    def carry(self, options: Sequence[Option], health: Mapping[str, Health]) -> None:
        """Answer by *options* from now on; *health* by variant."""
        self.runners = tuple(
            Runner(option, health[option.variant], self._cores) for option in options
        )
        same = {option.id: option for option in options}  # the same candidate is no change
        if self.last is not None:
            self.last = same.get(self.last.id, self.last)
        if self.nominal is not None:
            self.nominal = same.get(self.nominal.id, self.nominal)

    def restrict(self, only: Callable[[Option], bool] | None, goal: Goal | None = None) -> None:
        """Answer by the options that *only* admits; None: by all, as where it admits none.

        Args:
            goal: Restrict the order by this goal alone; None: all orders.
        """
        self._only = only
        self._only_goal = goal

    def arrive(self, rows: int, slack_s: float) -> None:
        """Count one request of *rows* rows that has *slack_s* left."""
        self.rate.add(rows)
        self.usual_rows = rows
        off_s = slack_s - self.slack_s
        self.slack_s += (TIGHTER if off_s < 0 else LOOSER) * off_s

    # What may answer ---------------------------------------------------------------------------

    def refresh(self, now: float) -> None:
        """Bring orders and costs up to date with what is in rotation, and how it does."""
        able = [runner for runner in self.runners if runner.health.may_answer(now)]
        able = able or list(self.runners)  # the last one is not taken out: it may recover
        bound = able
        if self._only is not None:
            bound = [runner for runner in able if self._only(runner.option)] or able
        limit_ms = self.slack_s * 1000 * self._tuning.call_share
        for runner in able:
            runner.refresh(limit_ms, self._cores, self._tuning.overhead_ms)
        for goal in GOALS:
            among = bound if self._only_goal in (None, goal) else able
            self._thrifty[goal] = min(among, key=_row_cost_ms, default=None)
            if set(among) != set(self._orders[goal]):
                ordered = sorted(among, key=lambda runner: -runner.option.worth[goal])
                self._orders[goal] = tuple(ordered)
                self._planned = ()

    def order(self, goal: Goal) -> tuple[Runner, ...]:
        """Return what may answer, best first by *goal*."""
        return self._orders[goal]

    def thrifty(self, goal: Goal) -> Runner | None:
        """Return what may answer and costs the host least for a row; None where nothing may."""
        return self._thrifty[goal]

    def least_ms(self, goal: Goal, rows: int) -> float:
        """Return the p95 latency of *rows* rows on the fastest that may answer, in ms."""
        return min((runner.p95_ms(rows) for runner in self._orders[goal]), default=0.0)

    # What is started from ----------------------------------------------------------------------

    def load(self, goal: Goal) -> tuple[float, float]:
        """Return the share of the host that the rate takes on the best and thriftiest option."""
        order, thrifty = self._orders[goal], self._thrifty[goal]
        if thrifty is None:
            return 0.0, 0.0
        rate = self.rate.cautious / 1000
        return rate * order[0].row_cost_ms, rate * thrifty.row_cost_ms

    def bearable(self, goal: Goal) -> float:
        """Return the load of the host at which the lane's requests do not wait for too long."""
        order, thrifty, tuning = self._orders[goal], self._thrifty[goal], self._tuning
        if thrifty is None:
            return tuning.most_load
        rate = max(self.rate.cautious, 1e-9)
        return planned_load(
            self.rate.variation,
            min(order[0].row_cost_ms, 1000 / rate),  # the mix costs no more than there is
            self.slack_s * 1000 - thrifty.p95_ms(thrifty.call_rows),
            least=tuning.least_load,
            most=tuning.most_load,
        )

    def plan(self, share: float) -> bool:
        """Plan the mix for the present rate; return whether it changed.

        Args:
            share: Of the host's capacity that may be used. Where what each option would take of
                it has changed by less than `Tuning.least_change` of that, nothing changes.
        """
        load = self.rate.cautious / share if share > 0 else 0.0
        demands = tuple(load * runner.row_cost_ms for runner in self._orders["objective"])
        if len(demands) == len(self._planned) and all(
            abs(new - old) <= self._tuning.least_change * old
            for new, old in zip(demands, self._planned, strict=True)
        ):
            return False
        self._planned = demands
        before = dict(self._mixes)
        capacity = 1000 / load if load > 0 else float("inf")
        for goal, runners in self._orders.items():
            costs = [runner.row_cost_ms for runner in runners]
            worth = [runner.option.worth[goal] for runner in runners]
            if runners:
                self._mixes[goal] = best_mix(worth, costs, capacity)
        return before != self._mixes

    def mix(self, goal: Goal) -> Mix | None:
        """Return the mix that the present rate affords, None before the first plan."""
        return self._mixes.get(goal)

    def main(self, goal: Goal) -> Runner | None:
        """Return what most requests start from; None where nothing is loaded.

        Of two with about one half each it is the one that it was; one that is due for a trial
        gets that one call only.
        """
        runner = self._most(goal)
        if runner is None or runner.health.closed:
            return runner
        return next((each for each in self._orders[goal] if each.health.closed), runner)

    def _most(self, goal: Goal) -> Runner | None:
        mix, order = self._mixes.get(goal), self._orders[goal]
        if mix is None or not order:
            return order[0] if order else None
        upper, lower = order[mix.upper], order[mix.lower]
        if upper.option is self.nominal:
            return upper if mix.share >= 0.5 - STAYS else lower
        if lower.option is self.nominal:
            return upper if mix.share >= 0.5 + STAYS else lower
        return upper if mix.share >= 0.5 else lower

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


def _row_cost_ms(runner: Runner) -> float:
    return runner.row_cost_ms
