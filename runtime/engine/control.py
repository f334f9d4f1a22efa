"""The control loop: ticks for the scheduler, rules for its choices, a watch on the rotation."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from scanflow_serve.runtime.engine.answerers import Answerer
from scanflow_serve.runtime.engine.black_box import Crashes
from scanflow_serve.runtime.engine.conditions import live_host, unwatched, values
from scanflow_serve.runtime.engine.dispatch import Dispatcher
from scanflow_serve.runtime.engine.fleet import Fleet
from scanflow_serve.runtime.engine.steering import Steering, check_names
from scanflow_serve.runtime.engine.upkeep import Upkeep
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.scheduler.rules import Change
from scanflow_serve.runtime.scheduler.scheduler import Scheduler

log = logging.getLogger(__name__)

TICK_S = 0.1
RULES_S = 0.25  # a condition takes 0.1 to 0.7 ms, and the host's files as much


class Control:
    """What is done at regular intervals, beside the requests.

    Args:
        root: Where the host's files lie, as `profile_host` takes it.
        crashes: Where variants that answer again are forgiven.
        suspects: Variants that ran when a worker died.

    Attributes:
        checks: Returns what conditions see of each check.
        upkeep: What requests cost beside inference.
    """

    def __init__(
        self,
        prepared: Prepared,
        fleet: Fleet,
        scheduler: Scheduler,
        dispatch: Dispatcher,
        steering: Steering,
        *,
        notify: Callable[[Event], None],
        root: str,
        crashes: Crashes | None,
        suspects: Mapping[str, int],
    ) -> None:
        self._host = prepared.host
        self._main = prepared.plan.policy
        names = check_names(prepared.policy_file.policy)
        self.checks: Callable[[], Mapping[str, Mapping[str, Any]]] = lambda: unwatched(names)
        self.upkeep = Upkeep()
        self._fleet = fleet
        self._scheduler = scheduler
        self._dispatch = dispatch
        self._steering = steering
        self._notify = notify
        self._root = root
        self._crashes = crashes
        self._suspects = set(suspects)
        self._out: set[str] = set(suspects)
        self._ruled = 0.0

    async def run(self) -> None:
        """Tick until cancelled; a fault of one tick is logged, and the next one tries again."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await self.tick(time.perf_counter())
            except Exception:
                log.exception("the control loop goes on after")

    async def tick(self, now: float) -> None:
        """Do all that is due at *now*, by `time.perf_counter`."""
        self._scheduler.tick(now)
        self.upkeep.tick(
            time.thread_time() - self._dispatch.inline_s, self._scheduler.traffic.total
        )
        self._dispatch.pump()
        await self._watch_rotation()
        if len(self._steering.rules) and now - self._ruled >= RULES_S:
            self._ruled = now
            seen = values(
                self._scheduler,
                now,
                waiting=self._dispatch.waiting,
                answerer=self._current(),
                checks=self.checks(),
            )
            self._steering.changed(await asyncio.to_thread(self._evaluate, seen, now), now)

    def _evaluate(self, seen: dict[str, Mapping[str, Any]], now: float) -> list[Change]:
        return self._steering.rules.tick({**seen, "host": live_host(self._host, self._root)}, now)

    def _current(self) -> Answerer | None:
        """Return what most requests of the policy's name get."""
        if self._main not in self._scheduler.lanes():
            return None
        runner = self._scheduler.lane(self._main).main(self._scheduler.goal)
        return None if runner is None else self._fleet.now.by_option[runner.option]

    async def _watch_rotation(self) -> None:
        """Tell which variants left the rotation, and which rejoined it."""
        known = {option.variant for option in self._fleet.now.by_option} | self._suspects
        out = {variant for variant in known if not self._scheduler.health(variant).closed}
        for variant in out - self._out:
            health = self._scheduler.health(variant)
            pause_s = max(0.0, health.open_until - time.perf_counter())
            why = self._dispatch.failures.get(variant)
            text = f"{variant} pauses for {pause_s:.3g} s: {why.text if why else 'it failed'}"
            self._notify(Event("failure", variant, text, {"pause_s": pause_s}))
        for variant in self._out - out:
            if variant in self._suspects:
                self._suspects.discard(variant)
                if self._crashes is not None:
                    await asyncio.to_thread(self._crashes.forgive, variant)
            self._notify(Event("recovery", variant, f"{variant} answers again"))
        self._out = out
