"""What a serving process does once: load the plan that was prepared, and the policy with it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from scanflow_serve.policies.errors import ScanflowError, StateError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime import prepared
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.serving import environment
from scanflow_serve.serving.collector import calm_collector
from scanflow_serve.serving.http.site import image_reader, open_guard

POLICY_FILE = "policy.json"  # in the state folder


def start_engine(state: Path | None = None) -> Engine:
    """Return the loaded engine of the plan that was prepared in *state*.

    Args:
        state: Default: the environment variable ``SCANFLOW_STATE``, set by whoever prepared.

    Raises:
        ScanflowError: The plan can't be read, a model can't be loaded, or ``serve.image`` does not
            give what the model takes.
    """
    state = state or Path(os.environ[environment.STATE])
    engine = Engine(prepared.load(state, policy_file=kept_policy(state)))
    image_reader(engine)  # here a fault is told in a line; in the lifespan, in a traceback
    open_guard(engine, state)
    calm_collector()
    return engine


def start_or_exit(state: Path | None = None) -> Engine:
    """Return `start_engine`'s engine; where it can't be had, say why in a line and exit with 1.

    A process that can't serve has nothing to clean up, and a traceback would hide the reason.
    """
    try:
        return start_engine(state)
    except ScanflowError as error:
        print(f"scanflow-serve: {error}", file=sys.stderr, flush=True)
        os._exit(1)


def keep_policy(policy_file: PolicyFile, state: Path) -> None:
    """Keep the policy as it was planned for: a worker that is restarted serves that one.

    The file itself may be edited meanwhile; that takes effect at the next start.
    """
    document = {"path": str(policy_file.path.absolute()), "text": policy_file.text}
    path = state / POLICY_FILE
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(document), encoding="utf-8")
    draft.replace(path)


def kept_policy(state: Path) -> PolicyFile:
    """Return the policy that `keep_policy` kept.

    Raises:
        StateError: There is none.
        PolicyError: A file that it names is gone.
    """
    path = state / POLICY_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return load_policy(Path(document["path"]), text=document["text"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"{path}: must hold the policy that was planned, got {type(error).__name__}. "
            "Start with: scanflow-serve run POLICY"
        ) from error
