"""The policy that a state folder serves, kept so that a worker that is restarted serves that one.

Context: ``PUT /policy`` changes what runs, and leaves the file on disk as it is. Both the next
worker and the next start must know which of the two to serve.

Outcome: ``policy.json`` holds the policy's text, the folder of its plan, and, if it came by PUT,
the digest of the file at that time. It is replaced as one, after the plan is written, so that a
crash at any moment leaves a policy with its own plan. A start serves the accepted policy while
the file is as it was then; once the file is edited, the file is newer, and wins.

Price: to go back to the file, edit it (a comment will do), or PUT its own text.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanflow_serve.policies.errors import StateError
from scanflow_serve.policies.loader import PolicyFile, load_policy

FILE = "policy.json"  # in the state folder
PLANS = "plans"  # in the state folder: a folder for the plan of each policy that came by PUT


@dataclass(frozen=True, slots=True)
class Kept:
    """What a state folder serves.

    Attributes:
        plan: The folder that holds ``plan.json``.
    """

    policy_file: PolicyFile
    plan: Path


def keep(policy_file: PolicyFile, state: Path, *, plan: Path | None = None, over: str = "") -> None:
    """Serve *policy_file* from now on, at restarts of the worker too.

    Args:
        plan: The folder of its plan; default: *state* itself.
        over: `text_digest` of the file that it was accepted over; "" for the file's own text.

    Raises:
        StateError: The state folder can't be written.
    """
    plan = plan or state
    document = {
        "path": str(policy_file.path.absolute()),
        "text": policy_file.text,
        "plan": plan.relative_to(state).as_posix(),
        "over": over,
    }
    path = state / FILE
    draft = path.with_suffix(".tmp")
    try:
        draft.write_text(json.dumps(document), encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise StateError(
            f"{path}: must be writable, got {error.strerror!r}. Free space, or choose another "
            "folder by --state."
        ) from error
    _forget_plans(state, plan)


def kept(state: Path) -> Kept:
    """Return what `keep` kept.

    Raises:
        StateError: There is nothing.
        PolicyError: A file that the policy names is gone.
    """
    path = state / FILE
    try:
        document = _document(path)
        policy_file = load_policy(Path(document["path"]), text=document["text"])
        return Kept(policy_file, state / document["plan"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{path}: must hold the policy that was planned, got {type(error).__name__}. "
            "Start with: scanflow-serve run POLICY"
        ) from error


def accepted(policy_file: PolicyFile, state: Path) -> PolicyFile | None:
    """Return the policy that was accepted by PUT while the file was as it is now, else None.

    Raises:
        PolicyError: That policy has faults by now, such as a model file that is gone.
    """
    try:
        document = _document(state / FILE)
        same = document["path"] == str(policy_file.path.absolute())
        if not same or document["over"] != text_digest(policy_file.text):
            return None
        text = str(document["text"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing was served here before, or by another version
    return load_policy(policy_file.path, text=text)


def over(policy_file: PolicyFile, state: Path) -> str:
    """Return over which file *policy_file* was accepted; "" if it is the file's own. See `keep`."""
    try:
        document = _document(state / FILE)
        same = document["path"] == str(policy_file.path.absolute())
        return str(document["over"]) if same and document["text"] == policy_file.text else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def text_digest(text: str) -> str:
    """Return what tells one text of a policy file from another: SHA-256, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def _document(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _forget_plans(state: Path, served: Path) -> None:
    """Remove the plans of policies that are no longer served."""
    with suppress(FileNotFoundError):
        for folder in (state / PLANS).iterdir():
            if folder != served:
                shutil.rmtree(folder, ignore_errors=True)
