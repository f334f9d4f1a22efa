"""The loaded plan: public names, their signatures, and one way to ask for an answer.

What HTTP sees of the runtime. `Engine.infer` admits a request, runs it inline or on a worker
thread by its measured latency, and returns the answer with a prediction id for every row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.plan import Plan
from scanflow_serve.runtime.requests import Request, Response
from scanflow_serve.runtime.tensors import Signature
from scanflow_serve.runtime.workflow.pipeline import Pipeline


@dataclass(frozen=True, slots=True)
class Served:
    """One public name.

    Attributes:
        output: Name of the classification output, None if there is none.
        labels: Class names in output order, None if the policy gives none.
    """

    name: str
    kind: Literal["policy", "workflow", "model"]
    version: str
    pipeline: Pipeline
    measurement: Measurement | None
    labels: tuple[str, ...] | None

    @property
    def signature(self) -> Signature:
        """Return the public inputs and outputs."""
        return self.pipeline.signature


class Engine:
    """The plan of one policy on this host, loaded."""

    policy_file: PolicyFile
    host: HostProfile
    plan: Plan

    def names(self) -> tuple[str, ...]:
        """Return the public names that answer, the policy's first."""
        raise NotImplementedError

    def served(self, name: str, version: str | None = None) -> Served:
        """Return what answers to *name*.

        Raises:
            RequestError: 404, unknown name or version; says which exist, or that the policy
                knows the name but it is not loaded on this host.
        """
        raise NotImplementedError

    async def infer(self, request: Request) -> Response:
        """Return the answer.

        Raises:
            RequestError: 404 unknown name, 503 queue full, 504 deadline can't be met.
            InputError: Inputs don't fit the signature.
            ScanflowError: The inference failed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Free all sessions."""
        raise NotImplementedError
