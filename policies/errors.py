"""Every error that a person or a client may see.

::

    ScanflowError                   exit 1, HTTP 500
    ├── PolicyError                 a policy file has faults              exit 2
    ├── UsageError                  a command's arguments are off         exit 2
    ├── MissingExtraError           an optional package is not installed
    ├── ArtifactError               a model file is missing, corrupt, or malformed
    ├── DataError                   a data file lacks what the policy names     exit 2
    ├── BackendError                a backend can't load or run an artifact
    │   └── InputError              inputs don't fit the model            HTTP 400
    ├── WorkflowError               a workflow's steps don't fit together, or a Python step failed
    ├── CalibrationError            a variant could not be measured
    ├── TargetError                 no target of the policy matches the host
    ├── InfeasibleError             no candidate meets the objective's constraints
    ├── StateError                  the state folder is in use or unusable
    └── RequestError                an HTTP request is refused; has `status`

Texts read ``<where>: <rule>, got <value>. <What to do.>``; the rule is exactly what was tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class ScanflowError(Exception):
    """Root of every error that is meant to be read; anything else is a bug."""

    exit_code: int = 1
    status: int = 500


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in a policy file."""

    file: str
    line: int  # 1-based
    column: int  # 1-based
    path: str  # key path, such as ``models.digits-cnn.source``
    rule: str  # what must hold, with the value that was found
    cure: str = ""  # what to do

    def __str__(self) -> str:
        """Return ``file:line:column: path rule. cure``."""
        where = f"{self.file}:{self.line}:{self.column}"
        body = " ".join(part for part in (self.path, self.rule) if part)
        return f"{where}: {body.rstrip('.')}. {self.cure}".rstrip()


class PolicyError(ScanflowError):
    """A policy file has faults; `faults` holds all of them, in file order."""

    exit_code = 2
    status = 422

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class UsageError(ScanflowError):
    """A command's arguments don't make sense together."""

    exit_code = 2
    status = 400


class MissingExtraError(ScanflowError):
    """An optional package is not installed; the text names the command that installs it."""

    def __init__(self, what: str, extra: str, instead: str = "") -> None:
        self.extra = extra
        cure = f"Run: pip install 'scanflow-serve[{extra}]'"
        super().__init__(f"{what} is not installed. {cure}{f', or {instead}' if instead else ''}.")


class ArtifactError(ScanflowError):
    """A model file is missing, corrupt or malformed."""


class DataError(ScanflowError):
    """A data file can't be read, or does not hold the arrays or columns that the policy names."""

    exit_code = 2
    status = 422


class BackendError(ScanflowError):
    """A backend can't load or run an artifact."""


class InputError(BackendError):
    """Inputs don't fit the model: wrong name, dtype or shape."""

    status = 400


class WorkflowError(ScanflowError):
    """A workflow's steps don't fit together, or one of its Python steps failed."""


class CalibrationError(ScanflowError):
    """A variant could not be measured on this host."""


class TargetError(ScanflowError):
    """No target of the policy matches the host; the text lists the conditions."""


class InfeasibleError(ScanflowError):
    """No candidate meets the objective's constraints; the text lists the nearest misses.

    Args:
        text: The message.
        verdicts: Every candidate with its figures and reason (`runtime.plan.Verdict`), nearest
            first, so that a person can be shown the whole table.
        measurements: What was measured here before (`runtime.measurements.Measurements`), so
            that it can be written down; None if nothing was.
    """

    def __init__(
        self, text: str, verdicts: Sequence[Any] = (), measurements: Any | None = None
    ) -> None:
        self.verdicts = tuple(verdicts)
        self.measurements = measurements
        super().__init__(text)


class StateError(ScanflowError):
    """The state folder is in use by a live process, or can't be written."""


class RequestError(ScanflowError):
    """An HTTP request is refused.

    Args:
        status: HTTP status code.
        detail: What was wrong, where (JSON path), and what would be right.
        retry_after_s: Sent as ``Retry-After`` with 429, 503 and 504.
    """

    def __init__(self, status: int, detail: str, *, retry_after_s: float | None = None) -> None:
        self.status = status
        self.detail = detail
        self.retry_after_s = retry_after_s
        super().__init__(detail)
