"""All lanes: what they carry, how they share the host, and what is told when that changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from scanflow_serve.runtime.scheduler.jobs import Goal, Option, Reason
from scanflow_serve.runtime.scheduler.journal import Journal
from scanflow_serve.runtime.scheduler.lane import Lane
from scanflow_serve.runtime.scheduler.mix import fair_shares
from scanflow_serve.runtime.scheduler.rotation import Rotation
from scanflow_serve.runtime.scheduler.tuning import Tuning


class Lanes:
    """The lanes of one server.

    Attributes:
        by_name: The open ones.
        goal: For requests that ask for nothing themselves.
        rotation: How the lanes' variants do; they share it.
    """

    def __init__(self, cores: int, deadline_s: float, tuning: Tuning, journal: Journal) -> None:
        self.by_name: dict[str, Lane] = {}
        self.goal: Goal = "objective"
        self.rotation = Rotation(tuning, self._rotated)
        self._only: Callable[[Option], bool] | None = None
        self._only_goal: Goal | None = None
        self._cores = cores
        self._deadline_s = deadline_s
        self._tuning = tuning
        self._journal = journal

    def carry(
        self, name: str, options: Sequence[Option], now: float, reason: Reason, why: str
    ) -> None:
        """Open a lane, change what it carries, or close it where there are no *options*."""
        if not options:
            self.by_name.pop(name, None)
            self.plan(now)
            return
        lane = self.by_name.get(name)
        if lane is None:
            lane = Lane(name, self._cores, self._deadline_s, self._tuning, now)
            lane.restrict(self._only, self._only_goal)
            self.by_name[name] = lane
        for option in options:
            self.rotation.know(option.variant)
        lane.carry(options, self.rotation.health)
        self.plan(now)
        self._decide(lane, reason, now, why, {})

    def bound(
        self,
        goal: Goal,
        only: Callable[[Option], bool] | None,
        firm: bool,
        now: float,
        reason: Reason,
        why: str,
    ) -> None:
        """Bound all choices; see `Scheduler.bound`."""
        self.goal = goal
        self._only, self._only_goal = only, None if firm else goal
        for lane in self.by_name.values():
            lane.restrict(only, self._only_goal)
        self.plan(now)
        for lane in self.by_name.values():
            self._decide(lane, reason, now, why, {})

    def tick(self, now: float) -> None:
        """Bring rates, ratios, mixes and rotation up to date."""
        self.rotation.tick(now)
        for lane in self.by_name.values():
            lane.rate.tick(now)
        self.plan(now)
        for lane in self.by_name.values():
            rate = lane.rate.cautious
            self._decide(lane, "rate", now, f"{rate:.3g} rows/s", {"rows_per_s": rate})

    def plan(self, now: float) -> None:
        """Bring orders and mixes up to date; share the host between the lanes by what they need."""
        lanes = list(self.by_name.values())
        for lane in lanes:
            lane.refresh(now)
        loads = [lane.load(self.goal) for lane in lanes]
        needs, weights = [best for best, _ in loads], [least for _, least in loads]
        load = min((lane.bearable(self.goal) for lane in lanes), default=self._tuning.least_load)
        shares = fair_shares(needs, weights, load)
        for lane, share in zip(lanes, shares, strict=True):
            lane.plan(share or load)

    def _rotated(self, reason: Reason, now: float, why: str, figures: Mapping[str, float]) -> None:
        """Bring the lanes up to date with what is in rotation, and say so."""
        self.plan(now)
        for lane in self.by_name.values():
            self._decide(lane, reason, now, why, figures)

    def _decide(
        self, lane: Lane, reason: Reason, now: float, why: str, figures: Mapping[str, float]
    ) -> None:
        """Record what most of the lane's requests start from, if that changed."""
        runner = lane.main(self.goal)
        after = None if runner is None else runner.option
        if after is lane.nominal:
            return
        before, lane.nominal = lane.nominal, after
        self._journal.record(lane, before, after, reason, now, why, figures)
