"""The process that answers: uvicorn around BentoML's service, or around our application alone.

Run as ``python -m scanflow_serve.serving.worker LAUNCH [PARENT_PID GO_FD READY_FD]``; without the
latter three it is a server of its own (``serve: {server: uvicorn}``) and has no parent to follow.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from scanflow_serve.serving import environment
from scanflow_serve.serving.collector import calm_collector
from scanflow_serve.serving.launch import Launch
from scanflow_serve.serving.lifetime import end_with_parent

if TYPE_CHECKING:
    from starlette.types import ASGIApp

KEEP_ALIVE_S = 75  # longer than the idle time of common load balancers (60 s)


class Server(uvicorn.Server):
    """uvicorn's server, saying when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application's lifespan, accept connections, then say so."""
        await super().startup(sockets)
        if self.started:
            self.ready()


def application(start: Launch) -> ASGIApp:
    """Return what uvicorn runs."""
    if start.server == "bentoml":
        from scanflow_serve.serving.service import Application, Scanflow

        return cast("Application", Scanflow).to_asgi()
    from scanflow_serve.serving.app import create_app
    from scanflow_serve.serving.start import start_or_exit

    environ = {**os.environ, environment.STATE: start.state}
    return create_app(lambda: start_or_exit(Path(start.state)), environ)


def settings(start: Launch) -> dict[str, Any]:
    """Return uvicorn's settings."""
    return {
        "access_log": False,  # ours is sampled, see the policy's serve.access_log
        "http": "httptools",
        "lifespan": "on",
        "log_config": None,
        "proxy_headers": False,  # else any local client names its own address, and its own rate
        "loop": "uvloop" if sys.platform != "win32" else "asyncio",
        "server_header": False,
        "ssl_certfile": start.certificate,
        "ssl_keyfile": start.key,
        "timeout_graceful_shutdown": max(1, round(start.grace_s)),
        "timeout_keep_alive": KEEP_ALIVE_S,
        "ws": "none",
    }


def serve(app: ASGIApp, start: Launch, ready: Callable[[], None]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    server = Server(uvicorn.Config(app, **settings(start)), ready)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has shut down; by then all is done: exit 0
        signal.signal(number, lambda *_: None)
    server.run(sockets=[socket.socket(fileno=start.fd)])
    return 0 if server.started else 1


def main() -> None:
    """Serve the launch given as the first argument."""
    gc.disable()  # imports make much and drop nothing; `start.calm_collector` turns it on again
    start = Launch.parse(sys.argv[1])
    if len(sys.argv) == 2:
        os.set_inheritable(start.lock_fd, False)  # it had to survive our exec; it is ours alone
        sys.exit(serve(application(start), start, lambda: None))
    parent, go, told = map(int, sys.argv[2:])
    end_with_parent(parent)
    for fd in (told, start.fd):
        os.set_inheritable(fd, False)
    app = application(start)
    calm_collector()  # most of the work, off the critical path if we have to wait now
    if go >= 0 and os.read(go, 1) != b"1":
        sys.exit(1)  # the parent gave up, and has said why
    sys.exit(serve(app, start, lambda: _tell(told)))


def _tell(fd: int) -> None:
    os.write(fd, b"1")
    os.close(fd)


if __name__ == "__main__":
    main()
