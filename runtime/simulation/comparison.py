"""From a plan to strategies, and from strategies to the figures that compare them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from scanflow_serve.policies.schema import Policy
from scanflow_serve.runtime.engine.lanes import Holding, main_candidates
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.scheduler.options import options
from scanflow_serve.runtime.scheduler.tuning import Tuning
from scanflow_serve.runtime.simulation.arrivals import Arrival
from scanflow_serve.runtime.simulation.baselines import (
    Setting,
    SlackOnly,
    rate_thresholds,
    scheduler,
)
from scanflow_serve.runtime.simulation.results import Result, result
from scanflow_serve.runtime.simulation.strategy import Strategy
from scanflow_serve.runtime.simulation.world import Log, Machine, replay

OURS = "scheduler"
Progress: TypeAlias = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One strategy's run: its figures, and all that happened."""

    result: Result
    log: Log


def setting(plan: Plan, policy: Policy, host: HostProfile, deadline_ms: float | None) -> Setting:
    """Return what the server of *plan* has to schedule with: its choice, and what stands by.

    Args:
        deadline_ms: Of requests that name none; None: the policy's.
    """
    held = [Holding(plan.chosen, "chosen"), *(Holding(each, "standby") for each in plan.standbys)]
    figures = {verdict.candidate.id: verdict.measurement for verdict in plan.verdicts}
    loaded = [(each, figures.get(each.id)) for each in main_candidates(plan, held)]
    limits = policy.scheduling
    return Setting(
        lane=policy.name,
        options=options(loaded, plan.goal, limits.max_batch),
        cores=max(1, int(host.cpu.cores)),
        max_queue=limits.max_queue,
        max_batch=limits.max_batch,
        deadline_s=(policy.default_deadline_ms if deadline_ms is None else deadline_ms) / 1000,
        tuning=Tuning(),
    )


def strategies(setting: Setting, *, compare: bool) -> Mapping[str, Callable[[], Strategy]]:
    """Return makers of the strategies by name, ours first.

    Args:
        compare: Also simpler rules, and each option alone, named as its variant.
    """
    found: dict[str, Callable[[], Strategy]] = {OURS: partial(scheduler, setting)}
    if compare:
        found["slack only"] = partial(SlackOnly, setting)
        found["rate thresholds"] = partial(rate_thresholds, setting)
        for option in setting.options:
            found[option.variant] = partial(scheduler, setting.only(option))
    return found


def runs(
    arrivals: Sequence[Arrival],
    setting: Setting,
    machine: Machine,
    *,
    seed: int,
    compare: bool,
    progress: Progress | None = None,
) -> Iterator[Run]:
    """Yield each strategy's run over the same *arrivals*, ours first.

    Args:
        progress: Called with (done, of, what comes next).
    """
    every = strategies(setting, compare=compare)
    for done, (name, make) in enumerate(every.items()):
        if progress is not None:
            progress(done, len(every), name)
        log = replay(
            arrivals,
            make(),
            machine,
            lane=setting.lane,
            deadline_s=setting.deadline_s,
            seed=seed,
        )
        yield Run(result(name, log, setting.options), log)
