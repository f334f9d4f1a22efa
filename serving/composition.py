"""The composition root: hands converters to the runtime, and what a policy asks for to both."""

from __future__ import annotations

from scanflow_serve.converters.make import Maker
from scanflow_serve.converters.verification import gate
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.prepare import Prepared, prepare
from scanflow_serve.serving.inactive import inactive_sections
from scanflow_serve.serving.progress import Progress


def prepared(
    policy_file: PolicyFile,
    host: HostProfile,
    *,
    recalibrate: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Return the prepared plan of *policy_file* on *host*, with notes on what is not active.

    Raises:
        ScanflowError: No target matches, or no candidate can be measured or is feasible.
    """
    return prepare(
        policy_file,
        host,
        ingest=Maker(host, progress=progress),
        gate=gate,
        recalibrate=recalibrate,
        progress=progress,
        notes=inactive_sections(policy_file.policy),
    )
