"""Where a server's engines come from: the state folder, and policies that are put there later."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from scanflow_serve.policies.errors import StateError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.events import Notify
from scanflow_serve.serving import kept_policy, preparation, reload_rules
from scanflow_serve.serving.kept_policy import Kept
from scanflow_serve.serving.start import load_engine, start_or_exit


@dataclass(frozen=True, slots=True)
class Successor:
    """An engine that may replace the one that serves.

    Attributes:
        accept: Makes restarts serve it too; blocks for a moment. Raises StateError.
    """

    engine: Engine
    accept: Callable[[], None]


class Home(Protocol):
    """Has the first engine, and makes those that follow it.

    Attributes:
        state: The state folder, where checks keep what they learn; None: they don't run.
    """

    state: Path | None

    def start(self, notify: Notify) -> Engine:
        """Return the loaded engine of what was prepared; blocks."""
        ...

    async def successor(self, text: str, running: PolicyFile, notify: Notify) -> Successor:
        """Return what may follow the *running* policy, loaded: the policy of *text*.

        Raises:
            PolicyError: It has faults, or changes what takes a restart.
            RequestError: 403, it adds or changes code.
            StateError: It could not be prepared.
            ScanflowError: It can't be served on this host.
        """
        ...


class StateHome:
    """A state folder that a plan was prepared in; see `Home`."""

    def __init__(self, state: Path) -> None:
        self.folder = state
        self.state: Path | None = state

    def start(self, notify: Notify) -> Engine:
        """Return the engine of the plan kept there; where it can't be had, exit with 1."""
        return start_or_exit(self.folder, notify)

    async def successor(self, text: str, running: PolicyFile, notify: Notify) -> Successor:
        """Check, plan and load the policy of *text* while the running one goes on."""
        policy_file = await asyncio.to_thread(reload_rules.successor, text, running)
        folder = _new_folder(self.folder / kept_policy.PLANS)
        try:
            await preparation.prepare(policy_file, folder)
            engine = await asyncio.to_thread(
                load_engine, Kept(policy_file, folder), self.folder, notify
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

        def accept() -> None:
            kept_policy.keep(policy_file, self.folder, plan=folder, over=_on_disk(policy_file.path))

        return Successor(engine, accept)


def _new_folder(plans: Path) -> Path:
    try:
        plans.mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=plans))
    except OSError as error:
        raise StateError(
            f"{plans}: must be writable, got {error.strerror!r}. Free space, or restart with "
            "another folder by --state."
        ) from error


def _on_disk(path: Path) -> str:
    """Return the digest of the policy file's present text; of nothing if it can't be read."""
    try:
        return kept_policy.text_digest(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return kept_policy.text_digest("")
