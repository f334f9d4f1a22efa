"""Which candidates may answer which public name, given what is loaded. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scanflow_serve.policies.schema import AnyOf, Policy
from scanflow_serve.runtime.plan import Plan, Verdict
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow import graph

Kind: TypeAlias = Literal["policy", "workflow", "model"]
# Why a candidate is loaded: by the plan, because a rule may ask for it, or at a client's request.
Why: TypeAlias = Literal["chosen", "standby", "rule", "loaded"]


@dataclass(frozen=True, slots=True)
class Holding:
    """A candidate whose variants are to be loaded."""

    candidate: Candidate
    why: Why


@dataclass(frozen=True, slots=True)
class LanePlan:
    """One lane: who asks it, and who answers.

    Attributes:
        name: The first of its public names.
        names: Public names with what each is.
        candidates: At least one; the plan's choice first where it is among them.
    """

    name: str
    names: tuple[tuple[str, Kind], ...]
    candidates: tuple[Candidate, ...]


def plan_lanes(policy: Policy, plan: Plan, held: Sequence[Holding]) -> tuple[LanePlan, ...]:
    """Return the lanes that *held* candidates open, the policy's first if any can answer it."""
    main = main_candidates(plan, held)
    lanes = []
    if main:
        names: list[tuple[str, Kind]] = [(policy.name, "policy")]
        several = isinstance(policy.targets[plan.target].run, AnyOf)
        if not several and plan.chosen.run in policy.workflows:
            names.append((plan.chosen.run, "workflow"))
        lanes.append(LanePlan(policy.name, tuple(names), main))
        if several:  # each alternative answers to its own name, and only itself
            for run in dict.fromkeys(candidate.run for candidate in main):
                own = tuple(c for c in main if c.run == run)
                lanes.append(LanePlan(run, ((run, "workflow"),), own))
    variants = dict.fromkeys(v for holding in held for v in holding.candidate.variants)
    for model in dict.fromkeys(variant.model for variant in variants):
        run = graph.model_alternative(model).name
        own = tuple(Candidate(run, (variant,)) for variant in variants if variant.model == model)
        lanes.append(LanePlan(model, ((model, "model"),), own))
    return tuple(lanes)


def main_candidates(plan: Plan, held: Sequence[Holding]) -> tuple[Candidate, ...]:
    """Return what may answer the policy's run: what is held for it, and what that adds up to.

    Variants that were loaded one by one are candidates of the run too, where they meet the
    policy's constraints; combinations that the plan did not keep only if nothing beats them.
    """
    runs = {verdict.candidate.run for verdict in plan.verdicts} | {plan.chosen.run}
    planned = [h.candidate for h in held if h.candidate.run in runs]
    variants = {v for holding in held for v in holding.candidate.variants}
    extra = {v for h in held if h.candidate.run not in runs for v in h.candidate.variants}
    added = [
        verdict.candidate
        for verdict in plan.verdicts
        if verdict.candidate.variants
        and variants.issuperset(verdict.candidate.variants)
        and servable(plan, verdict)
        and (verdict.pareto or not extra.isdisjoint(verdict.candidate.variants))
    ]
    every = dict.fromkeys((*planned, *added))
    return tuple(sorted(every, key=lambda candidate: candidate != plan.chosen))


def servable(plan: Plan, verdict: Verdict) -> bool:
    """Return whether a candidate may answer: measured, verified, and within the constraints.

    Under ``on_infeasible: best_effort`` nothing meets them, and what comes near may answer.
    """
    if verdict.measurement is None:
        return False
    if verdict.rejected is None or verdict.rejected.code == "objective":
        return True
    return not plan.feasible and verdict.rejected.code == "constraint"


def without_model(held: Sequence[Holding], model: str) -> tuple[Holding, ...]:
    """Return *held* without all that runs *model*."""
    return tuple(h for h in held if model not in h.candidate.models)


def variants_of(held: Collection[Holding]) -> tuple[Variant, ...]:
    """Return the variants of *held*, each once."""
    return tuple(dict.fromkeys(v for holding in held for v in holding.candidate.variants))
