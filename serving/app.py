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
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette

from scanflow_serve.policies.errors import (
    InputError,
    PolicyError,
    RequestError,
    ScanflowError,
    StateError,
)
from scanflow_serve.policies.schema import Limits
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.events import Event, EventLog
from scanflow_serve.serving.check_metrics import CheckMetrics
from scanflow_serve.serving.collector import calm_collector
from scanflow_serve.serving.home import Home
from scanflow_serve.serving.http.events import EventStreams
from scanflow_serve.serving.http.exchange import (
    ClientDisconnectedError,
    Exchange,
    Receive,
    Reply,
    Scope,
    Send,
)
from scanflow_serve.serving.http.introspection import STARTING, summary
from scanflow_serve.serving.http.problems import faults, problem, refusal
from scanflow_serve.serving.http.routes import INFERENCE, Methods, Router
from scanflow_serve.serving.http.sending import send_reply
from scanflow_serve.serving.http.site import open_site
from scanflow_serve.serving.http.slow_bodies import SlowBodies
from scanflow_serve.serving.http.tenure import MIB, Tenure, close
from scanflow_serve.serving.lifetime import on_end_signal
from scanflow_serve.serving.metrics import Metrics

if TYPE_CHECKING:
    from scanflow_serve.policies.loader import PolicyFile
    from scanflow_serve.runtime.engine import Engine

log = logging.getLogger("scanflow_serve.http")
access = logging.getLogger("scanflow_serve.access")
access.setLevel(logging.INFO)  # its share is the policy's; the root's level must not silence it

BODY_LIMIT = int(Limits().body_mb * MIB)
BUSY = "Another policy is being prepared; one at a time is. Retry once GET /events tells of it."
GONE = 499  # nginx's code for a client that went away; only metrics and the access log see it


class Application:
    """A pure ASGI application over one engine at a time.

    Args:
        home: Has the first engine, and those that follow it.
        environ: Where keys are looked for; default: the process's environment.

    Attributes:
        in_flight: Requests being answered.
        reloading: Another policy is being prepared.
        slow_bodies: Gives up requests whose bodies do not come.
        streams: The log of events, and who follows it.
    """

    def __init__(self, home: Home, environ: Mapping[str, str] | None = None) -> None:
        self.in_flight = 0
        self.reloading = False
        self.slow_bodies = SlowBodies()
        self.streams = EventStreams(EventLog())
        self.metrics = Metrics(INFERENCE)
        self.metrics.watch(lambda: self.in_flight, lambda: self.ready)
        self.metrics.add(CheckMetrics(self._checks))
        self._home = home
        self._environ = os.environ if environ is None else environ
        self._router = Router()
        self._tenure: Tenure | None = None  # until the policy is known only probes are answered
        self._unwatch: Callable[[], None] = lambda: None
        self._sampling: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Return whether predictions are answered."""
        return self._tenure is not None

    async def startup(self) -> None:
        """Load the engine, then answer.

        Raises:
            ScanflowError: The engine could not be loaded, keys are missing, or the policy's
                ``serve.image`` does not fit the model.
        """
        engine = await asyncio.to_thread(self._home.start, self.streams.log.add)
        tenure = await self._begun(engine)
        self._install(tenure)
        tenure.watch()
        self.slow_bodies.start()
        self.streams.open()
        self._unwatch = on_end_signal(self.streams.close)
        self._sampling = asyncio.create_task(self.metrics.traffic.run(), name="traffic")

    async def _begun(self, engine: Engine) -> Tenure:
        """Return what answers by *engine* from now on; where it can't, the engine is closed."""
        try:
            site = open_site(engine, self.metrics, self.streams, self.reload, self._home.state)
            tenure = Tenure(site, self._environ)
            await engine.start()
        except BaseException:
            await close(engine)
            raise
        return tenure

    def _checks(self) -> Host | None:
        return None if self._tenure is None else self._tenure.site.checks

    def _install(self, tenure: Tenure) -> None:
        """Answer by *tenure* from now on."""
        self._tenure = tenure
        self.metrics.serve(tenure.site.engine)

    async def reload(self, text: str) -> dict[str, Any]:
        """Serve the policy of *text* from now on; on any failure the old one goes on.

        Returns:
            What ``PUT /policy`` answers with.

        Raises:
            PolicyError: It has faults.
            RequestError: 403 it changes code; 409 another reload goes on; 422 it can't be served
                on this host; 503 the server stops.
            ScanflowError: It could not be prepared or kept.
        """
        old = self._tenure
        if self.reloading:
            raise RequestError(409, BUSY)
        self.reloading = True
        try:
            if old is None:
                raise RequestError(503, STARTING)
            new = await self._succeed(text, old.site.engine.policy_file)
        finally:
            self.reloading = False
        if self._tenure is None:  # the server stops; its next start serves the policy
            await new.end()
        else:
            self._install(new)
            await old.unwatch()  # what its checks learned, the new one's take up
            new.watch()
            retiring = asyncio.create_task(self._retire(old))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
        return summary(new.site.engine)

    async def _succeed(self, text: str, running: PolicyFile) -> Tenure:
        """Return what may follow the *running* policy, accepted, and say how it went."""
        note = self.streams.log.add
        try:
            successor = await self._home.successor(text, running, note)
            tenure = await self._begun(successor.engine)
            try:
                if self._tenure is None:
                    raise RequestError(503, STARTING)
                await asyncio.to_thread(successor.accept)
            except BaseException:
                await tenure.end()
                raise
        except ScanflowError as error:
            note(Event("reload", "policy", f"A policy was refused; the old one serves on. {error}"))
            if isinstance(error, PolicyError | RequestError | StateError):
                raise
            raise RequestError(422, f"The policy can't be served here: {error}") from error
        chosen = successor.engine.plan.chosen.id
        note(Event("reload", "policy", f"Another policy serves from now on, by {chosen}."))
        return tenure

    async def _retire(self, tenure: Tenure) -> None:
        await tenure.end()
        await asyncio.to_thread(calm_collector)

    async def shutdown(self) -> None:
        """Stop answering and free the engine."""
        tenure, self._tenure = self._tenure, None
        self._unwatch()
        self.streams.close()
        await self.slow_bodies.stop()
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
        if tenure is not None:
            await tenure.end()
        await asyncio.gather(*self._retiring)

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
        tenure = self._tenure
        body_limit = BODY_LIMIT if tenure is None else tenure.body_limit
        exchange = Exchange(scope, receive, path, body_limit, self.slow_bodies)
        methods, exchange.params = self._router.match(path)
        status = GONE
        self.in_flight += 1
        try:
            reply = await self._reply(exchange, methods, tenure)
            await send_reply(reply, exchange, send)
            status = reply.status
        except ClientDisconnectedError:
            pass
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - started
            label = next(iter(methods.values())).template if methods else "unknown"
            self.metrics.request(label, status, seconds)
            if tenure is not None and tenure.logged and random.random() < tenure.logged:
                access.info(
                    "%s %s %r %d %.3f ms",
                    exchange.client,
                    exchange.method,
                    path,
                    status,
                    seconds * 1000,
                )

    async def _reply(
        self, exchange: Exchange, methods: Methods | None, tenure: Tenure | None
    ) -> Reply:
        """Return the reply, whatever happens; only a client that went away has none."""
        path = exchange.path
        try:
            if tenure is not None:
                tenure.meet(exchange)
            if methods is None:
                return problem(path, 404, f"{path[:200]!r} is unknown. GET /docs lists the routes.")
            method = "GET" if exchange.method == "HEAD" else exchange.method
            route = methods.get(method)
            if route is None:
                return _not_allowed(exchange, methods)
            if route.probe is not None:
                return route.probe(tenure is not None)
            if tenure is None:
                raise RequestError(503, STARTING, retry_after_s=1)
            return await tenure.answer(exchange, route)
        except RequestError as error:
            return refusal(path, error)
        except PolicyError as error:
            return faults(path, error)
        except InputError as error:
            return problem(path, 400, str(error))
        except (ClientDisconnectedError, asyncio.CancelledError):
            raise
        except Exception as error:  # the server lives; the log has the rest
            return _failure(exchange, error)


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


def create_app(home: Home, environ: Mapping[str, str] | None = None) -> ServingApp:
    """Return the application; its lifespan loads the engine of *home* and closes it.

    Before and after, health says not ready and predictions are 503.
    """
    return ServingApp(Application(home, environ))
