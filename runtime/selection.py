"""Chooses the candidate that fits best, and says of every other why it was not chosen.

Pure: policy, host and measurements in, plan out; the order in which candidates are given does
not matter. Latencies within 5 % of one another are tied, accuracies only when equal on the same
rows (`figures`); ties are broken by latency, then size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scanflow_serve.policies.errors import InfeasibleError
from scanflow_serve.policies.schema import AnyOf, Policy, Run
from scanflow_serve.runtime.constraints import bounds, violations
from scanflow_serve.runtime.figures import FIGURES, bound_text, constraint_figure
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement, Measurements, Refusal
from scanflow_serve.runtime.plan import Plan, Verdict
from scanflow_serve.runtime.ranking import BALANCED, Entry, distances, frontier, ranked, reasons
from scanflow_serve.runtime.variants import Candidate

NEAREST = 3  # misses that an error names
STANDBY_SHARE = 0.5  # of the host's memory that the chosen and its standbys may take together
_PREFERRED = {"accuracy": "accuracy", "latency": "latency_p95_ms", "balanced": BALANCED}


def goal_of(policy: Policy) -> str:
    """Return what "best" means: a figure, or ``balanced``; `prefer` replaces the objective."""
    prefer = policy.scheduling.prefer
    return _PREFERRED[prefer] if prefer else policy.objective.figure


def memory_budget_mb(policy: Policy, host: HostProfile) -> float:
    """Return what the chosen and its standbys may take together, in MiB."""
    limit = policy.objective.subject_to.max_memory_mb or host.memory_mb
    return min(limit, host.memory_mb * STANDBY_SHARE)


@dataclass(frozen=True, slots=True)
class _Pool:
    """The candidates, sorted out; the refused and the infeasible have a reason in `rejected`."""

    feasible: list[Entry]
    infeasible: list[Entry]
    rejected: dict[str, Refusal]


def select(
    policy: Policy,
    host: HostProfile,
    target: int,
    candidates: Sequence[Candidate],
    measurements: Measurements,
    *,
    notes: Sequence[str] = (),
) -> Plan:
    """Return the plan for *host*, with a verdict on every one of *candidates*.

    Args:
        target: Index of the target that matched.
        candidates: Each once; a refusal in *measurements* prevails over figures there.
        notes: Sentences to carry along.

    Raises:
        InfeasibleError: No candidate has figures, or none meets the constraints and the policy
            does not say ``on_infeasible: best_effort``; carries the verdicts.
    """
    pool = _sorted_out(policy, candidates, measurements)
    misses = sorted(pool.infeasible, key=lambda entry: (entry.penalty, entry.candidate.id))
    if not pool.feasible and (not misses or policy.objective.on_infeasible == "fail"):
        verdicts = _verdicts(misses, candidates, measurements, pool.rejected)
        raise InfeasibleError(_infeasible(policy, verdicts, misses, pool.rejected), verdicts)
    order = ranked(pool.feasible or misses, goal_of(policy))
    chosen = order[0].candidate
    if not pool.feasible:
        broken = pool.rejected[chosen.id].reason
        notes = (*notes, f"No candidate meets the constraints; the nearest was taken: {broken}.")
    why = {key: Refusal("objective", text) for key, text in reasons(order, goal_of(policy)).items()}
    rejected = {key: value for key, value in (why | pool.rejected).items() if key != chosen.id}
    edge = {entry.candidate.id for entry in frontier(pool.feasible)}
    best_first = order + (misses if pool.feasible else [])
    return Plan(
        policy=policy.name,
        host=host.fingerprint,
        target=target,
        when=policy.targets[target].when or "",
        run=run_text(policy.targets[target].run),
        objective=objective_text(policy),
        chosen=chosen,
        standbys=_standbys(policy, host, order[0], [e for e in order if e.candidate.id in edge]),
        verdicts=_verdicts(best_first, candidates, measurements, rejected, edge),
        feasible=bool(pool.feasible),
        notes=tuple(notes),
        goal=goal_of(policy),
        bounds=bounds(policy.objective),
    )


def run_text(run: Run) -> str:
    """Return a target's `run` as the policy says it, such as ``any: B1, B2``."""
    if isinstance(run, str):
        return run
    if isinstance(run, AnyOf):
        return f"any: {', '.join(run.any)}"
    return f"sequence: {', '.join(run.sequence)}"


def objective_text(policy: Policy) -> str:
    """Return the objective and its constraints as a person reads them."""
    goal, prefer = goal_of(policy), policy.scheduling.prefer
    if goal == BALANCED:
        text = "balance accuracy, latency and memory"
    else:
        figure = FIGURES[goal]
        text = f"{'maximize' if figure.higher else 'minimize'} {figure.label}"
    if prefer:
        text += f" (scheduling.prefer: {prefer})"
    limits = [bound_text(key, limit) for key, limit in bounds(policy.objective).items()]
    return f"{text} subject to {', '.join(limits)}" if limits else text


def _sorted_out(
    policy: Policy, candidates: Sequence[Candidate], measurements: Measurements
) -> _Pool:
    limits = bounds(policy.objective)
    feasible: list[Entry] = []
    infeasible: list[Entry] = []
    rejected: dict[str, Refusal] = {}
    for candidate in sorted(candidates, key=lambda c: c.id):
        measurement = measurements.measured.get(candidate.id)
        refusal = measurements.refused.get(candidate.id) or _unknown(policy, measurement)
        if refusal is not None or measurement is None:
            rejected[candidate.id] = refusal or Refusal("unmeasured", "was not measured")
        elif broken := violations(limits, measurement):
            rejected[candidate.id] = Refusal("constraint", "; ".join(map(str, broken)))
            excess = sum(violation.excess for violation in broken)
            infeasible.append(Entry(candidate, measurement, penalty=excess))
        else:
            feasible.append(Entry(candidate, measurement))
    if goal_of(policy) == BALANCED:
        feasible, infeasible = _with_distances(feasible), _with_distances(infeasible)
    return _Pool(feasible, infeasible, rejected)


def _with_distances(entries: list[Entry]) -> list[Entry]:
    pairs = zip(entries, distances(entries) if entries else (), strict=True)
    return [replace(entry, distance=distance) for entry, distance in pairs]


def _unknown(policy: Policy, measurement: Measurement | None) -> Refusal | None:
    """Return a refusal if a figure that decides is not known."""
    if measurement is None:
        return None
    figures = [constraint_figure(key) for key in bounds(policy.objective)]
    goal = goal_of(policy)
    for figure in [*figures, *([FIGURES[goal]] if goal != BALANCED else [])]:
        if figure.of(measurement) is None:
            if figure.key == "energy_mj":
                text = "energy is not measurable here: this host has no RAPL or INA counter"
                return Refusal("unsupported", text)
            text = f"{figure.label} decides, but it could not be measured"
            cause = measurement.unscored if figure.key == "accuracy" else ""
            return Refusal("unmeasured", f"{text}. {cause}" if cause else text)
    return None


def _standbys(
    policy: Policy, host: HostProfile, chosen: Entry, edge: Sequence[Entry]
) -> tuple[Candidate, ...]:
    """Return others of the frontier, best first; a model not yet there comes before one that is.

    All of them and the chosen together stay within the memory constraint, and within a share of
    the host's memory.
    """
    left_mb = memory_budget_mb(policy, host) - chosen.measurement.memory_mb
    models = {chosen.candidate.models}
    taken: list[Entry] = []
    for fresh in (True, False):
        for entry in edge:
            if len(taken) == policy.scheduling.standbys:
                break
            if entry is chosen or entry in taken or (fresh and entry.candidate.models in models):
                continue
            if entry.measurement.memory_mb <= left_mb:
                left_mb -= entry.measurement.memory_mb
                models.add(entry.candidate.models)
                taken.append(entry)
    return tuple(entry.candidate for entry in edge if entry in taken)


def _verdicts(
    best_first: Sequence[Entry],
    candidates: Sequence[Candidate],
    measurements: Measurements,
    rejected: dict[str, Refusal],
    edge: set[str] | frozenset[str] = frozenset(),
) -> tuple[Verdict, ...]:
    ranked_ones = [entry.candidate for entry in best_first]
    rest = sorted((c for c in candidates if c not in ranked_ones), key=lambda c: c.id)
    rejected = rejected | _said_once(rest, rejected)
    return tuple(
        Verdict(
            candidate=candidate,
            measurement=measurements.measured.get(candidate.id),
            rejected=rejected.get(candidate.id),
            pareto=candidate.id in edge,
        )
        for candidate in (*ranked_ones, *rest)
    )


def _said_once(
    candidates: Sequence[Candidate], rejected: Mapping[str, Refusal]
) -> dict[str, Refusal]:
    """Return short refusals of those that differ only in threads from one with the same reason."""
    first: dict[tuple[Candidate, Refusal], Candidate] = {}
    short: dict[str, Refusal] = {}
    for candidate in sorted(candidates, key=lambda c: (c.threads, c.id)):
        refusal = rejected.get(candidate.id)
        if refusal is None or not candidate.variants:
            continue
        alike = tuple(replace(variant, threads=1) for variant in candidate.variants)
        said = first.setdefault((replace(candidate, variants=alike), refusal), candidate)
        if said is not candidate:
            counts = "+".join(f"x{variant.threads}" for variant in said.variants)
            short[candidate.id] = Refusal(refusal.code, f"as {counts}")
    return short


def _infeasible(
    policy: Policy,
    verdicts: Sequence[Verdict],
    misses: Sequence[Entry],
    rejected: dict[str, Refusal],
) -> str:
    if not misses:
        refusals = (rejected.get(verdict.candidate.id) for verdict in verdicts)
        causes = dict.fromkeys(refusal.reason for refusal in refusals if refusal)
        first = f"{policy.name}: a candidate must be usable on this host, got 0 of {len(verdicts)}."
        return "\n".join([first, *(f"  {cause}" for cause in causes)])
    lines = [
        f"{policy.name}: a candidate must meet the constraints, got none of {len(misses)} measured "
        f"({objective_text(policy)}). Nearest misses:"
    ]
    lines += [f"  {e.candidate.id}: {rejected[e.candidate.id].reason}" for e in misses[:NEAREST]]
    lines.append("Loosen objective.subject_to, or set objective.on_infeasible: best_effort.")
    return "\n".join(lines)
