"""One policy's time of service: who may come in, what answers, and when the last has left."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from scanflow_serve.policies.schema import Auth
from scanflow_serve.serving.http.exchange import Exchange, Reply
from scanflow_serve.serving.http.loopback import refuse_strangers
from scanflow_serve.serving.http.rates import Rates
from scanflow_serve.serving.http.routes import Route
from scanflow_serve.serving.http.site import Site
from scanflow_serve.serving.keys import load_keys, require

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine

MIB = 1024 * 1024


class Tenure:
    """A loaded policy while it serves, with its keys and limits.

    A request that began under a policy ends under it: its engine must not be closed before.

    Args:
        environ: Where keys are looked for.

    Attributes:
        body_limit: Bytes.
        logged: Share of requests in the access log.

    Raises:
        UsageError: The policy's keys can't be had.
    """

    def __init__(self, site: Site, environ: Mapping[str, str]) -> None:
        policy_file = site.engine.policy_file
        serve = policy_file.policy.serve
        self.site = site
        self.body_limit = int(serve.limits.body_mb * MIB)
        self.logged = serve.access_log
        self._keyless = serve.auth is None
        self._keyring = (
            load_keys(serve.auth, policy_file.folder, environ)
            if isinstance(serve.auth, Auth)
            else None
        )
        rate_rps = serve.limits.rate_rps
        self._rates = None if rate_rps is None else Rates(rate_rps)
        self._inside = 0
        self._left: asyncio.Event | None = None

    def meet(self, exchange: Exchange) -> None:
        """Refuse web pages from elsewhere, where nobody is asked for a key.

        Raises:
            RequestError: 421 or 403.
        """
        if self._keyless:
            refuse_strangers(exchange.method, exchange.headers)

    async def answer(self, exchange: Exchange, route: Route) -> Reply:
        """Return the reply of *route*, which is no probe.

        Raises:
            RequestError: 401, 403 or 429, and what the route raises.
        """
        assert route.answer is not None
        if self._keyring is not None and route.access != "open":
            key = self._keyring.key(exchange.header(b"authorization"))
            exchange.client = key.name
            require(key, route.access)
        if self._rates is not None and route.limited:
            self._rates.admit(exchange.client)
        self._inside += 1
        try:
            return await route.answer(self.site, exchange)
        finally:
            self._inside -= 1
            if self._left is not None and not self._inside:
                self._left.set()

    async def end(self) -> None:
        """Wait until the last request that began here has its answer, then free the engine."""
        if self._inside:
            self._left = asyncio.Event()
            await self._left.wait()
        await self.unwatch()
        await close(self.site.engine)

    def watch(self) -> None:
        """Let the checks look at what is answered from now on."""
        if self.site.checks is not None:
            self.site.checks.start()

    async def unwatch(self) -> None:
        """Let the checks keep what they have learned, and end."""
        if self.site.checks is not None:
            await asyncio.to_thread(self.site.checks.close)


async def close(engine: Engine) -> None:
    """Stop the engine and free what it holds."""
    await engine.stop()
    await asyncio.to_thread(engine.close)
