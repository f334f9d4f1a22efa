"""Measurements written down on one host, to plan for it on another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.documents import read_document
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Measurement, Measurements, Refusal
from scanflow_serve.runtime.variants import Candidate

_CURE = "Record on that machine: scanflow-serve calibrate POLICY --json > measurements.json"


@dataclass(frozen=True, slots=True)
class Record:
    """What ``scanflow-serve calibrate POLICY --json`` writes.

    Attributes:
        policy: The policy's name.
        host: Where the figures were measured.
    """

    policy: str
    host: HostProfile
    measurements: Measurements

    def to_json(self) -> dict[str, Any]:
        """Return the document: host, policy, and figures or refusals by candidate id."""
        figures = self.measurements.to_json()
        return {
            "host": self.host.to_json(),
            "policy": self.policy,
            "measured": figures["measured"],
            "refused": figures["refused"],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Record:
        """Return the record whose document is *value*.

        Raises:
            pydantic.ValidationError: A member is missing or of the wrong type.
            ValueError: A key is not the id of a candidate.
        """
        document = TypeAdapter(_Document).validate_python(dict(value))
        for key in (*document.measured, *document.refused):
            Candidate.from_id(key)
        host = HostProfile.from_json(document.host)
        figures = Measurements(host.fingerprint, document.measured, document.refused)
        return cls(document.policy, host, figures)


@dataclass(frozen=True)
class _Document:
    host: dict[str, Any]
    policy: str
    measured: dict[str, Measurement]
    refused: dict[str, Refusal]


def load_record(path: Path) -> Record:
    """Return the record in the file at *path*.

    Raises:
        UsageError: It can't be read or is no such record; every fault is listed.
    """
    try:
        return read_document(path, Record.from_json, _CURE)
    except ValueError as error:
        raise UsageError(f"{path}: a candidate's id {error}. {_CURE}") from None
