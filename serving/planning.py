"""Plans without serving: for this host by measuring, for another from what was recorded there."""

from __future__ import annotations

from pathlib import Path

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.host.recorded import load_profile
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.prepare import Prepared, plan_for
from scanflow_serve.runtime.record import load_record
from scanflow_serve.serving import composition
from scanflow_serve.serving.inactive import inactive_sections
from scanflow_serve.serving.progress import progress


def plan(path: Path, host_file: Path | None, measurements_file: Path | None) -> Plan:
    """Return the plan of the policy at *path*.

    Args:
        host_file: What ``profile --json`` wrote on the machine to plan for; None means the one
            that *measurements_file* tells of, or this one.
        measurements_file: What ``calibrate --json`` wrote on it; None means to measure here.

    Raises:
        UsageError: Another machine's profile comes without its measurements.
        ScanflowError: No target matches, or no candidate is feasible.
    """
    return planned(load_policy(path), host_file, measurements_file)[0]


def planned(
    policy_file: PolicyFile, host_file: Path | None, measurements_file: Path | None
) -> tuple[Plan, HostProfile]:
    """Return the plan of *policy_file* and the host that it is for; otherwise as `plan`."""
    if measurements_file is not None:
        record = load_record(measurements_file)
        host = load_profile(host_file) if host_file is not None else record.host
        notes = inactive_sections(policy_file.policy)
        return plan_for(policy_file, host, record.measurements, notes=notes), host
    if host_file is not None:
        raise UsageError(
            f"--for: must come with --measurements, got {str(host_file)!r} alone. On that machine, "
            "run: scanflow-serve calibrate POLICY --json > FILE"
        )
    host = profile_host()
    return measured(policy_file, host).plan, host


def measured(policy_file: PolicyFile, host: HostProfile, *, recalibrate: bool = False) -> Prepared:
    """Return the prepared plan for this *host*, measuring what is not known; keeps no state."""
    with progress("measuring") as report:
        return composition.prepared(policy_file, host, recalibrate=recalibrate, progress=report)
