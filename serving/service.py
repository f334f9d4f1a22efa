"""The BentoML service; ``bentoml serve scanflow_serve.serving.service:Scanflow`` starts it.

The environment variable SCANFLOW_POLICY names the policy file.

Context: BentoML's application answers ``/livez``, ``/readyz``, ``/metrics``, ``/`` and
``/docs.json`` itself, answers unknown paths in plain text, and sends every request through its
timeout middleware, which starts a task and leaves a timer behind for `traffic.timeout` seconds.

Options, measured with one trivial application on 2 vCPU (p50 at 1 connection, req/s at 16,
the worker's memory after 8 s of load): mounted 0.18 ms, 11,100, 159 MB; as the innermost
middleware 0.15 ms, 19,000, 184 MB; outermost, by `Scanflow.to_asgi`, 0.055 ms, 14,400, 96 MB
(noisy neighbours: trust p50); bare uvicorn 0.052 ms, 23,400, 33 MB.

Outcome: outermost. HTTP goes to our application directly; the lifespan goes through BentoML, which
runs its own hooks and, because the application is mounted too, ours, once.
Price: BentoML's middlewares (CORS, tracing, `add_asgi_middleware`) do not see our routes; with
``serve: {tracing: true}`` requests take the long way.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")  # BentoML reads it when imported

import bentoml
import click
from bentoml.exceptions import BentoMLException

from scanflow_serve.serving import environment

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
# s; BentoML must not cut what the scheduler admitted. Deadlines are the policy's.
LONGEST_REQUEST_S = 24 * 3600.0


class Application(bentoml.Service[Any]):  # type: ignore[misc]  # untyped there
    """A BentoML service whose HTTP is answered by our application."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """Return the application of one worker."""
        # BentoML sets it for its own metrics, which are off; ours are of this one process.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        from scanflow_serve.serving.app import create_app
        from scanflow_serve.serving.home import StateHome
        from scanflow_serve.serving.lifetime import end_with_parent

        if parent := os.environ.get(environment.PARENT):
            end_with_parent(int(parent))
        ours = create_app(StateHome(Path(os.environ[environment.STATE])))
        self.mount_asgi_app(ours)  # runs our lifespan
        theirs = super().to_asgi(is_main)
        return _outermost(_traced(ours) if os.environ.get(environment.TRACING) else ours, theirs)


def _outermost(ours: ASGIApp, theirs: ASGIApp) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (ours if scope["type"] == "http" else theirs)(scope, receive, send)

    return app


def _enter_bento() -> Path:
    """Return the folder of the policy; for a built bento its source, with its variables set."""
    bento = cast("Application", Scanflow).bento
    if bento is None:
        return Path.cwd()
    for variable in bento.info.envs:
        if variable.stage != "build" and variable.value:
            os.environ.setdefault(variable.name, variable.value)
    return Path(bento.path_of("src"))


def _asked_address() -> str:
    """Return the address that ``bentoml serve --host`` asks for."""
    context = click.get_current_context(silent=True)
    asked = context.params.get("host") if context is not None else None
    return str(asked or LOOPBACK)


def _traced(app: ASGIApp) -> ASGIApp:
    """Return *app* with the tracing that BentoML's configuration describes."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

    provider = BentoMLContainer.tracer_provider.get()
    return OpenTelemetryMiddleware(app, tracer_provider=provider)


@bentoml.service(
    name="scanflow",
    service_class=Application,
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    traffic={"timeout": LONGEST_REQUEST_S},
    http={"host": LOOPBACK},  # where no --host is given
    labels={"framework": "scanflow-serve"},
)
class Scanflow:
    """Serves the policy that the environment variable SCANFLOW_POLICY names."""

    @bentoml.on_deployment  # type: ignore[untyped-decorator]
    @staticmethod
    def deploy() -> None:
        """Prepare the plan, once, in the parent of the workers (`bentoml serve` only)."""
        from scanflow_serve.policies.errors import ScanflowError
        from scanflow_serve.serving.deployment import deploy

        try:
            deploy(os.environ, folder=_enter_bento(), address=_asked_address())
        except ScanflowError as error:
            raise BentoMLException(str(error)) from None
