"""From a prepared plan to a running server, by replacing this process.

`run` has loaded the policy, CEL, rich and perhaps a backend by now. Rather than keep all that
resident for the life of the server, the process replaces itself (`exec`: same pid, same lock,
same socket) by a small one: the supervisor of BentoML's worker, or the uvicorn server itself.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scanflow_serve.serving import environment as variables
from scanflow_serve.serving import listening
from scanflow_serve.serving.locks import StateLock

if TYPE_CHECKING:  # pydantic must not stay in the server's parent
    from scanflow_serve.policies.schema import Policy
    from scanflow_serve.serving.child import Child

FILE = "server.json"  # in the state folder; for tools and tests
MODULES = {
    "bentoml": "scanflow_serve.serving.supervisor",
    "uvicorn": "scanflow_serve.serving.worker",
}


@dataclass(frozen=True, slots=True)
class Launch:
    """What a server process must know before it loads the plan.

    Attributes:
        state: The state folder, which holds the prepared plan.
        fd: File descriptor of the listening socket, inherited.
        lock_fd: File descriptor of the state's lock, inherited.
        certificate: PEM file, with `key`; None serves plain HTTP.
        grace_s: Seconds that requests in flight get after SIGTERM.
    """

    server: Literal["bentoml", "uvicorn"]
    policy: str
    state: str
    url: str
    fd: int
    lock_fd: int
    grace_s: float
    certificate: str | None = None
    key: str | None = None
    tracing: bool = False

    def dump(self) -> str:
        """Return the form in which it travels on a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Launch:
        """Return the launch that `dump` wrote."""
        return cls(**json.loads(text))


def launch(policy: Policy, folder: Path, lock: StateLock, sock: socket.socket) -> Launch:
    """Return how to start the server of *policy*, whose file lies in *folder*, on *sock*."""
    tls = policy.serve.tls
    return Launch(
        server=policy.serve.server,
        policy=policy.name,
        state=str(lock.state),
        url=listening.url(sock, tls=tls is not None),
        fd=sock.fileno(),
        lock_fd=lock.fd,
        grace_s=policy.serve.shutdown_grace_s,
        certificate=str(folder / tls.certificate) if tls else None,
        key=str(folder / tls.key) if tls else None,
        tracing=policy.serve.tracing,
    )


def announce(start: Launch) -> dict[str, Any]:
    """Write ``server.json`` into the state folder, whole or not at all, and return it."""
    host, _, port = start.url.rpartition(":")
    record = {
        "pid": os.getpid(),
        "policy": start.policy,
        "server": start.server,
        "url": start.url,
        "host": host.partition("://")[2].strip("[]"),
        "port": int(port),
    }
    path = Path(start.state, FILE)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(record) + "\n")
    draft.replace(path)
    return record


def become_server(
    start: Launch, lock: StateLock, sock: socket.socket, worker: Child | None
) -> None:
    """Replace this process by the server; does not return.

    Args:
        worker: One that was started early and waits to go on.

    Raises:
        StateError: Another process listens on the port by now.
    """
    listening.listen(sock)
    announce(start)
    arguments = [sys.executable, "-m", MODULES[start.server], start.dump()]
    if worker is not None:
        worker.go()
        os.set_inheritable(worker.ready_fd, True)
        arguments += [str(worker.pid), str(worker.ready_fd)]
    sock.set_inheritable(True)
    lock.survive_exec()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, arguments, environment(start))


def environment(start: Launch) -> dict[str, str]:
    """Return this process's environment with what keeps BentoML quiet and at home."""
    return os.environ | {
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": os.environ.get("BENTOML_HOME") or str(Path(start.state, "bentoml")),
        variables.STATE: start.state,
        **({variables.TRACING: "1"} if start.tracing else {}),
    }
