"""What a serving process does once: load the plan that was prepared, and the policy with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.runtime import prepared
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.events import Notify
from scanflow_serve.serving import kept_policy
from scanflow_serve.serving.collector import calm_collector
from scanflow_serve.serving.http.site import image_reader, open_guard
from scanflow_serve.serving.kept_policy import Kept


def start_engine(state: Path, notify: Notify) -> Engine:
    """Return the loaded engine of the plan that was prepared in *state*.

    Args:
        notify: Is told what happens to the engine.

    Raises:
        ScanflowError: The plan can't be read, a model can't be loaded, or ``serve.image`` does not
            give what the model takes, or an integrity check's schema does not fit it.
    """
    return load_engine(kept_policy.kept(state), state, notify)


def load_engine(kept: Kept, state: Path, notify: Notify) -> Engine:
    """Return the loaded engine of a policy and its plan, kept in *state* or about to be.

    Raises:
        ScanflowError: As `start_engine`.
    """
    ready = prepared.load(kept.plan, policy_file=kept.policy_file)
    engine = Engine(ready, notify=notify, state=state, settled=calm_collector)
    try:
        image_reader(engine)  # here a fault is told in a line; in the lifespan, in a traceback
        open_guard(engine, state)
    except ScanflowError:
        engine.close()
        raise
    calm_collector()
    return engine


def start_or_exit(state: Path, notify: Notify) -> Engine:
    """Return `start_engine`'s engine; where it can't be had, say why in a line and exit with 1.

    A process that can't serve has nothing to clean up, and a traceback would hide the reason.
    """
    try:
        return start_engine(state, notify)
    except ScanflowError as error:
        print(f"scanflow-serve: {error}", file=sys.stderr, flush=True)
        os._exit(1)
