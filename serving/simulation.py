"""Simulations of a policy: its plan on some host, arrivals, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanflow_serve.policies.errors import MissingExtraError, StateError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.folders import state_folder
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.prepare import load
from scanflow_serve.runtime.simulation import plot, traces
from scanflow_serve.runtime.simulation.arrivals import Arrival, describes, drawn, parse
from scanflow_serve.runtime.simulation.baselines import Setting
from scanflow_serve.runtime.simulation.comparison import OURS, Run, runs, setting
from scanflow_serve.runtime.simulation.optimum import optimum
from scanflow_serve.runtime.simulation.results import timeline
from scanflow_serve.runtime.simulation.world import OVERHEAD_MS, Machine
from scanflow_serve.serving import planning
from scanflow_serve.serving.progress import Progress

check_plot = plot.check_format
UNKNOWN_CONTENTION = (
    "How much calls at the same time slow each other down was not measured of every variant, and "
    "is taken as not at all. Measure again: scanflow-serve calibrate POLICY --recalibrate."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is simulated: a policy's plan on a host.

    Attributes:
        host: HostProfile.fingerprint.
        notes: What a person should know.
    """

    policy: str
    host: str
    setting: Setting
    machine: Machine
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Simulation:
    """What came of one trace.

    Attributes:
        trace: As it was asked for.
        length_s: Until the last arrival.
        optimum: Effective accuracy that nothing exceeds; None where it was not computed.
        notes: What a person should know.
    """

    subject: Subject
    trace: str
    seed: int
    requests: int
    length_s: float
    runs: tuple[Run, ...]
    optimum: float | None
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return one line that says what was simulated."""
        deadline_ms = self.subject.setting.deadline_s * 1000
        return (
            f"{self.subject.policy}: {self.requests:,} requests in {self.length_s:.3g} s "
            f"({self.trace}), deadline {deadline_ms:g} ms, {self.subject.machine.cores} cores"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        subject = self.subject
        return {
            "policy": subject.policy,
            "host": subject.host,
            "trace": self.trace,
            "seed": self.seed,
            "requests": self.requests,
            "length_s": self.length_s,
            "deadline_ms": subject.setting.deadline_s * 1000,
            "cores": subject.machine.cores,
            "overhead_ms": subject.machine.overhead_ms,
            "options": [option.id for option in subject.setting.options],
            "results": [run.result.to_json() for run in self.runs],
            "optimum": self.optimum,
            "notes": list(self.notes),
        }


def arrivals(trace: str, seed: int, seconds: float | None) -> Sequence[Arrival]:
    """Return the arrivals of *trace*, a file or the description of a load.

    Raises:
        UsageError: It is neither, or malformed.
    """
    if describes(trace):
        return drawn(parse(trace), seed, seconds=seconds)
    return traces.read(Path(trace), seconds=seconds)


def subject(
    path: Path,
    host_file: Path | None,
    measurements_file: Path | None,
    deadline_ms: float | None,
    overhead_ms: float | None,
) -> Subject:
    """Return what there is to simulate of the policy at *path*.

    Its plan is the one in its state folder where that still holds, else made as ``plan`` makes it.

    Args:
        host_file: As for `planning.planned`.
        measurements_file: As for `planning.planned`.
        deadline_ms: Of requests that name none; None: the policy's.
        overhead_ms: CPU of one request beside inference; None: `OVERHEAD_MS`.

    Raises:
        ScanflowError: As `planning.plan`.
    """
    policy_file = load_policy(path)
    elsewhere = host_file is not None or measurements_file is not None
    kept = None if elsewhere else _kept(policy_file)
    plan, host = kept or planning.planned(policy_file, host_file, measurements_file)
    made = setting(plan, policy_file.policy, host, deadline_ms)
    overhead_ms = OVERHEAD_MS if overhead_ms is None else overhead_ms
    machine = Machine(made.cores, overhead_ms, made.tuning.inline_ms)
    figures = (verdict.measurement for verdict in plan.verdicts)
    unknown = any(each is not None and each.contention is None for each in figures)
    notes = (UNKNOWN_CONTENTION,) if unknown else ()
    return Subject(policy_file.policy.name, plan.host, made, machine, notes)


def _kept(policy_file: PolicyFile) -> tuple[Plan, HostProfile] | None:
    """Return the plan by which this host serves, or served last; None if none still holds."""
    policy, host = policy_file.policy, profile_host()
    state = state_folder(policy_file.folder, policy.name, policy.state, None)
    try:
        prepared = load(state, policy_file=policy_file)
    except StateError:
        return None
    return (prepared.plan, host) if prepared.plan.host == host.fingerprint else None


def simulate(
    subject: Subject,
    arrivals: Sequence[Arrival],
    *,
    trace: str,
    seed: int,
    compare: bool,
    progress: Progress | None = None,
) -> Simulation:
    """Return what becomes of *arrivals*.

    Args:
        trace: Where they come from, for people.
        compare: Also run simpler rules, and bound what is possible.
        progress: Called with (done, of, what comes next).
    """
    machine = subject.machine
    found = tuple(
        runs(arrivals, subject.setting, machine, seed=seed, compare=compare, progress=progress)
    )
    bound, notes = None, [*subject.notes]
    if compare:
        try:
            bound = optimum(arrivals, subject.setting, machine.overhead_ms)
        except MissingExtraError as error:
            notes.append(f"The bound of all strategies was not computed. {error}")
    if all(option.accuracy is None for option in subject.setting.options):
        notes.append("No accuracy is known: effective accuracy is the share answered in time.")
    return Simulation(
        subject=subject,
        trace=trace,
        seed=seed,
        requests=len(arrivals),
        length_s=arrivals[-1].at,
        runs=found,
        optimum=bound,
        notes=tuple(notes),
    )


def draw(found: Simulation, path: Path) -> None:
    """Write a picture of our scheduler's run to *path*.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: The file can't be written.
    """
    ours = next(run for run in found.runs if run.result.strategy == OURS)
    plot.write(path, timeline(ours.log, plot.STEPS), found.title)
