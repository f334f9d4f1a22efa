"""Prepares a policy in a process of its own, beside a server that goes on answering.

Converting and measuring load much and may crash; here they cost the server neither its event loop
nor its life.

Context: figures are measured while the server runs. Options: give the process a low priority, so
that it takes only what is left, or none. Outcome: none; under a low priority a busy host would show
figures ten times off, and they are kept for later starts. Price: while it measures, live requests
share the cores with it, and the scheduler sees their variants slow down.

Run as ``python -m scanflow_serve.serving.preparation`` with the job on stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scanflow_serve.policies.errors import (
    Fault,
    PolicyError,
    RequestError,
    ScanflowError,
    StateError,
)
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.serving.lifetime import end_with_parent

FAILED = "error.json"
LOG = "log"
LIMIT_S = 3600.0  # converting a large model takes minutes; what takes longer hangs


async def prepare(policy_file: PolicyFile, folder: Path) -> None:
    """Plan *policy_file* for this host and keep the plan in *folder*, which must exist.

    Raises:
        PolicyError: It has faults that only this process saw, such as a file that just went.
        RequestError: 422, it can't be served on this host; says why.
        StateError: The process crashed, or did not end.
    """
    job = {
        "path": str(policy_file.path.absolute()),
        "text": policy_file.text,
        "folder": str(folder),
        "parent": os.getpid(),
    }
    with (folder / LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "scanflow_serve.serving.preparation"),
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,  # what it started ends with it
        )
    try:
        async with asyncio.timeout(LIMIT_S):
            await process.communicate(json.dumps(job).encode())
    except TimeoutError:
        raise StateError(
            f"The process that prepared the policy must end within {LIMIT_S:g} s, and did not."
        ) from None
    finally:  # when this task is cancelled, too
        with suppress(ProcessLookupError, PermissionError):  # nobody is left in it
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if process.returncode != 0:
        raise _failure(folder, process.returncode)


def _failure(folder: Path, status: int | None) -> ScanflowError:
    """Return what went wrong in the process, as if it had been raised here."""
    try:
        told = json.loads((folder / FAILED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        last = (folder / LOG).read_text(errors="replace").rstrip().rpartition("\n")[2]
        return StateError(
            f"The process that prepared the policy ended with {status}: {last or 'no output'}."
        )
    if told["faults"]:
        return PolicyError([Fault(**fault) for fault in told["faults"]])
    return RequestError(422, told["text"])


def _report(error: ScanflowError, folder: Path) -> None:
    faults = error.faults if isinstance(error, PolicyError) else ()
    document: dict[str, Any] = {
        "text": str(error),
        "faults": [asdict(fault) for fault in faults],
    }
    (folder / FAILED).write_text(json.dumps(document), encoding="utf-8")


def main() -> None:
    """Prepare the policy of the job on stdin."""
    job = json.load(sys.stdin)
    end_with_parent(job["parent"])
    from scanflow_serve.serving.deployment import plan_into

    folder = Path(job["folder"])
    try:
        plan_into(load_policy(Path(job["path"]), text=job["text"]), folder)
    except ScanflowError as error:
        _report(error, folder)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
