"""Loading and unloading behind the requests: one change at a time, adopted in one step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from scanflow_serve.policies.errors import RequestError, ScanflowError
from scanflow_serve.runtime.engine import catalogue
from scanflow_serve.runtime.engine.dispatch import Dispatcher
from scanflow_serve.runtime.engine.fleet import Composition, Fleet
from scanflow_serve.runtime.engine.lanes import Holding, without_model
from scanflow_serve.runtime.engine.steering import Steering
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.scheduler.jobs import Reason
from scanflow_serve.runtime.scheduler.scheduler import Scheduler

T = TypeVar("T")
log = logging.getLogger(__name__)

CRASHED = "it ran when a worker process died"


class Loading:
    """Changes what is loaded, in a thread of its own.

    Args:
        settled: Called in that thread after something was loaded.
        suspects: Variants that ran when a worker died, with how often each did.
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
        settled: Callable[[], None],
        suspects: Mapping[str, int],
    ) -> None:
        self._prepared = prepared
        self._policy = prepared.policy_file.policy
        self._fleet = fleet
        self._scheduler = scheduler
        self._dispatch = dispatch
        self._steering = steering
        self._notify = notify
        self._settled = settled
        self._suspects = suspects
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="loading")
        self._changing = asyncio.Lock()

    # The plan ------------------------------------------------------------------------------------

    def load_first(self) -> None:
        """Load what is needed to answer at all, in this thread.

        That is the plan's choice, or a standby where the choice may have crashed a worker: it may
        have done so while it was loaded.

        Raises:
            BackendError: A session can't be opened.
            ArtifactError: A converted file was removed meanwhile.
            WorkflowError: A Python step can't be imported or failed on the sample row.
        """
        planned = self._planned()
        trusted = [h for h in planned if h.candidate.variant_id not in self._suspects]
        first = (trusted or planned)[0]
        self._adopt(self._fleet.compose([first]), "start", f"the plan's {first.why}")
        now = time.perf_counter()
        for variant, times in self._suspects.items():
            self._scheduler.suspend(variant, now, CRASHED, times - 1)
            self._notify(Event("failure", variant, f"{CRASHED}; it is tried again after a pause"))

    async def load_rest(self) -> None:
        """Load the plan's other candidates, and what rules may ask for, one after another."""
        for holding in self._planned():
            await self._load_quietly(holding)
        for what in self._steering.wanted():
            try:
                candidate = catalogue.named(what, self._prepared)
                self._fleet.with_room_for(candidate)
            except RequestError as error:
                self._notify(Event("failure", what, f"a rule may ask for it, but {error}"))
                continue
            await self._load_quietly(Holding(candidate, "rule"))
        await self._in_thread(self._settled)

    def _planned(self) -> list[Holding]:
        plan = self._prepared.plan
        standbys = [Holding(candidate, "standby") for candidate in plan.standbys]
        return [Holding(plan.chosen, "chosen"), *standbys]

    async def _load_quietly(self, holding: Holding) -> None:
        """Load *holding*; what can't be loaded stands by for nothing, and is told."""
        variant = holding.candidate.variant_id
        if variant in self._suspects:
            pause_s = self._scheduler.health(variant).open_until - time.perf_counter()
            await asyncio.sleep(max(0.0, pause_s))
        async with self._changing:
            held = self._fleet.now.held
            loaded = {v for each in held for v in each.candidate.variants}
            if holding in held or (
                holding.why == "rule" and loaded.issuperset(holding.candidate.variants)
            ):
                return
            try:
                await self._change((*held, holding), "loaded", f"{variant} loaded as {holding.why}")
            except ScanflowError as error:
                log.warning("%s: can't be loaded: %s", variant, error)
                self._notify(Event("failure", variant, f"can't be loaded: {error}"))

    # Requests of clients -------------------------------------------------------------------------

    async def load(self, name: str) -> None:
        """Load the model *name*; see `Engine.load`."""
        if name not in self._policy.models:
            if name in self._fleet.now.names:
                return  # the policy's run is what is loaded first
            raise self._unknown(name)
        async with self._changing:
            if name in self._fleet.now.names:
                return
            candidate = catalogue.best_of(name, self._prepared)
            held = self._fleet.with_room_for(candidate)
            await self._change((*held, Holding(candidate, "loaded")), "loaded", f"{name} loaded")
            await self._in_thread(self._settled)
        self._notify(Event("load", name, f"{name} loaded as {candidate.variant_id}"))

    async def unload(self, name: str) -> None:
        """Unload the model *name*; see `Engine.unload`."""
        if name not in self._policy.models:
            if name not in self._fleet.now.names:
                raise self._unknown(name)
            raise RequestError(
                409, f"{name!r} is the policy's run, which always answers. Unload a model."
            )
        async with self._changing:
            if name not in self._fleet.now.names:
                return
            held = without_model(self._fleet.now.held, name)
            await self._change(held, "unloaded", f"{name} unloaded")
        self._notify(Event("unload", name, f"{name} unloaded"))

    def _needed(self, why: str) -> RequestError:
        return RequestError(
            409,
            f"{why}: something that is loaded must answer {self._policy.name!r}, got nothing. "
            "Load another model of its run first.",
        )

    def _unknown(self, name: str) -> RequestError:
        if name in self._policy.workflows:
            return RequestError(
                409,
                f"Workflow {name!r} is not what runs on this host. Only models can be loaded and "
                "unloaded; a target says which workflow runs.",
            )
        known = ", ".join(self._policy.models)
        return RequestError(404, f"Model {name!r} is unknown. The policy has: {known}.")

    # How -----------------------------------------------------------------------------------------

    async def _change(self, held: Sequence[Holding], reason: Reason, why: str) -> None:
        try:
            composition = await self._in_thread(lambda: self._fleet.compose(held))
            if self._policy.name not in composition.names:
                raise self._needed(why)
        except BaseException:
            self._fleet.abandon()
            self.close_idle()
            raise
        self._adopt(composition, reason, why)
        self.close_idle()
        self._dispatch.pump()

    def _adopt(self, composition: Composition, reason: Reason, why: str) -> None:
        before = self._fleet.now.options
        now = time.perf_counter()
        self._dispatch.carry(composition.by_option)
        for lane, options in composition.options.items():
            if before.get(lane) is not options:
                self._scheduler.carry(lane, options, now, reason=reason, why=why)
        for lane in before.keys() - composition.options.keys():
            self._scheduler.carry(lane, (), now, reason=reason, why=why)
        self._fleet.adopt(composition)
        self._steering.forget_pin(tuple(composition.by_option), now)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close_idle(self) -> None:
        """Close, in a thread, what answers nothing any more and does not run."""
        for close in self._fleet.take_idle():
            self._thread.submit(close)

    def close(self) -> None:
        """Close everything; nothing may run."""
        self._thread.shutdown(wait=True)
        self._fleet.close()
