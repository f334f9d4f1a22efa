"""The HTTP application: the same one under BentoML and under plain uvicorn."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from scanflow_serve.policies.errors import InputError, RequestError, ScanflowError
from scanflow_serve.policies.schema import Auth, Limits
from scanflow_serve.serving import environment
from scanflow_serve.serving.check_metrics import CheckMetrics
from scanflow_serve.serving.http.compression import WORTHWHILE, accepted_encoding, deflate
from scanflow_serve.serving.http.exchange import (
    ClientDisconnectedError,
    Exchange,
    Message,
    Receive,
    Reply,
    Scope,
    Send,
)
from scanflow_serve.serving.http.introspection import STARTING
from scanflow_serve.serving.http.loopback import refuse_strangers
from scanflow_serve.serving.http.problems import problem, refusal
from scanflow_serve.serving.http.rates import Rates
from scanflow_serve.serving.http.routes import INFERENCE, Methods, Route, Router
from scanflow_serve.serving.http.site import Site, open_site
from scanflow_serve.serving.http.slow_bodies import SlowBodies
from scanflow_serve.serving.keys import Keyring, load_keys, require
from scanflow_serve.serving.metrics import Metrics

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine

log = logging.getLogger("scanflow_serve.http")
access = logging.getLogger("scanflow_serve.access")
access.setLevel(logging.INFO)  # its share is the policy's; the root's level must not silence it

MIB = 1024 * 1024
GONE = 499  # nginx's code for a client that went away; only metrics and the access log see it


class Application:
    """A pure ASGI application over one engine.

    Args:
        start: Returns the loaded engine; called once, in a thread.
        environ: Where keys are looked for; default: the process's environment.

    Attributes:
        in_flight: Requests being answered.
        slow_bodies: Gives up requests whose bodies do not come.
    """

    def __init__(
        self, start: Callable[[], Engine], environ: Mapping[str, str] | None = None
    ) -> None:
        self.in_flight = 0
        self.slow_bodies = SlowBodies()
        self.metrics = Metrics(INFERENCE)
        self.metrics.watch(lambda: self.in_flight, lambda: self._site is not None)
        self.metrics.add(CheckMetrics(lambda: None if self._site is None else self._site.checks))
        self._start = start
        self._environ = os.environ if environ is None else environ
        self._router = Router()
        self._site: Site | None = None
        self._keyless = False  # until the policy is known; only probes are answered
        self._keyring: Keyring | None = None
        self._rates: Rates | None = None
        self._body_limit = int(Limits().body_mb * MIB)
        self._logged = 0.0
        self._sampling: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Return whether predictions are answered."""
        return self._site is not None

    async def startup(self) -> None:
        """Load the engine, then answer.

        Raises:
            ScanflowError: The engine could not be loaded, keys are missing, or the policy's
                ``serve.image`` does not fit the model.
        """
        engine = await asyncio.to_thread(self._start)
        try:
            self._site = self._opened(engine)
        except ScanflowError:
            await asyncio.to_thread(engine.close)
            raise
        if self._site.checks is not None:
            self._site.checks.start()
        self.slow_bodies.start()
        self._sampling = asyncio.create_task(self.metrics.traffic.run(), name="traffic")

    def _opened(self, engine: Engine) -> Site:
        serve = engine.policy_file.policy.serve
        self._keyless = serve.auth is None
        if isinstance(serve.auth, Auth):
            self._keyring = load_keys(serve.auth, engine.policy_file.folder, self._environ)
        if serve.limits.rate_rps is not None:
            self._rates = Rates(serve.limits.rate_rps)
        self._body_limit = int(serve.limits.body_mb * MIB)
        self._logged = serve.access_log
        self.metrics.planned(engine.plan)
        state = self._environ.get(environment.STATE)
        return open_site(engine, self.metrics, None if state is None else Path(state))

    async def shutdown(self) -> None:
        """Stop answering and free the engine."""
        site, self._site = self._site, None
        await self.slow_bodies.stop()
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
        if site is not None:
            if site.checks is not None:
                await asyncio.to_thread(site.checks.close)
            await asyncio.to_thread(site.engine.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request; refuse WebSockets."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        started = time.perf_counter()
        root = scope.get("root_path", "")
        path: str = scope["path"]
        if root and path.startswith(root):
            path = path[len(root) :] or "/"
        exchange = Exchange(scope, receive, path, self._body_limit, self.slow_bodies)
        methods, exchange.params = self._router.match(path)
        status = GONE
        self.in_flight += 1
        try:
            reply = await self._reply(exchange, methods)
            await _send(reply, exchange, send)
            status = reply.status
        except ClientDisconnectedError:
            pass
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - started
            label = next(iter(methods.values())).template if methods else "unknown"
            self.metrics.request(label, status, seconds)
            if self._logged and random.random() < self._logged:
                access.info(
                    "%s %s %r %d %.3f ms",
                    exchange.client,
                    exchange.method,
                    path,
                    status,
                    seconds * 1000,
                )

    async def _reply(self, exchange: Exchange, methods: Methods | None) -> Reply:
        """Return the reply, whatever happens; only a client that went away has none."""
        path = exchange.path
        try:
            if self._keyless:
                refuse_strangers(exchange.method, exchange.headers)
            if methods is None:
                return problem(path, 404, f"{path[:200]!r} is unknown. GET /docs lists the routes.")
            method = "GET" if exchange.method == "HEAD" else exchange.method
            route = methods.get(method)
            if route is None:
                return _not_allowed(exchange, methods)
            return await self._routed(exchange, route)
        except RequestError as error:
            return refusal(path, error)
        except InputError as error:
            return problem(path, 400, str(error))
        except (ClientDisconnectedError, asyncio.CancelledError):
            raise
        except Exception as error:  # the server lives; the log has the rest
            return _failure(exchange, error)

    async def _routed(self, exchange: Exchange, route: Route) -> Reply:
        if route.probe is not None:
            return route.probe(self._site is not None)
        site = self._site
        if site is None or route.answer is None:
            raise RequestError(503, STARTING, retry_after_s=1)
        if self._keyring is not None and route.access != "open":
            key = self._keyring.key(exchange.header(b"authorization"))
            exchange.client = key.name
            require(key, route.access)
        if self._rates is not None and route.limited:
            self._rates.admit(exchange.client)
        return await route.answer(site, exchange)


def _not_allowed(exchange: Exchange, methods: Methods) -> Reply:
    allowed = sorted({*methods, *(["HEAD"] if "GET" in methods else [])})
    listed = ", ".join(allowed)
    return problem(
        exchange.path,
        405,
        f"Method must be one of {listed}, got {exchange.method[:20]!r}.",
        headers=[(b"allow", listed.encode())],
    )


def _failure(exchange: Exchange, error: Exception) -> Reply:
    """Return a 500 whose id the log has too; only errors that are meant to be read are told."""
    identity = uuid.uuid4().hex
    log.error("error %s: %s %r", identity, exchange.method, exchange.path[:200], exc_info=error)
    told = f"{error} " if isinstance(error, ScanflowError) else "The server failed. "
    return problem(
        exchange.path,
        500,
        f"{told}Error id {identity}: the server's log has the rest.",
        instance=f"urn:uuid:{uuid.UUID(identity)}",
    )


async def _send(reply: Reply, exchange: Exchange, send: Send) -> None:
    body = reply.body
    headers = [(b"content-type", reply.content_type), *reply.headers]
    if len(body) >= WORTHWHILE:
        encoding = accepted_encoding(exchange.header(b"accept-encoding") or "")
        if encoding is not None:
            body = await asyncio.to_thread(deflate, body, encoding)
            headers.append((b"content-encoding", encoding.encode()))
        headers.append((b"vary", b"accept-encoding"))
    headers.append((b"content-length", b"%d" % len(body)))
    start: Message = {"type": "http.response.start", "status": reply.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else body})


class ServingApp(Starlette):
    """The application as what BentoML can mount: only a Starlette object's lifespan is run.

    HTTP goes straight to `application`, past Starlette's middleware and router (30 µs).
    """

    def __init__(self, application: Application) -> None:
        self.application = application

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            del app
            await application.startup()
            try:
                yield
            finally:
                await application.shutdown()

        super().__init__(lifespan=lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HTTP ourselves, leave the lifespan to Starlette."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            await self.application(scope, receive, send)


def create_app(start: Callable[[], Engine], environ: Mapping[str, str] | None = None) -> ServingApp:
    """Return the application; its lifespan loads the engine by *start* and closes it.

    Before and after, health says not ready and predictions are 503.
    """
    return ServingApp(Application(start, environ))
