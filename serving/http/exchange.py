"""One HTTP exchange on plain ASGI: headers, a bounded body, a reply of ready bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl

import orjson

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.serving.http.compression import inflate
from scanflow_serve.serving.http.slow_bodies import SlowBodies, Task, too_slow

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Headers: TypeAlias = list[tuple[bytes, bytes]]

JSON = b"application/json"
TEXT = b"text/plain; charset=utf-8"
DUMP = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


class ClientDisconnectedError(Exception):
    """The client went away before its request was complete; nobody is left to answer."""


class Stream(Protocol):
    """A body that comes piece by piece."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        ...

    def close(self) -> None:
        """Free what it holds; called once, whatever became of the client."""
        ...


@dataclass(slots=True)
class Reply:
    """What is sent back.

    Attributes:
        stream: Sent piece by piece instead of *body*, until it or the client ends it.
    """

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = field(default_factory=list)
    stream: Stream | None = None


def json_reply(value: Any, status: int = 200) -> Reply:
    """Return *value* as JSON; arrays become nested lists, NaN and infinities become null."""
    return Reply(status, orjson.dumps(value, option=DUMP))


class Exchange:
    """One request as it arrives.

    Attributes:
        params: Values of the path template's variables.
        headers: By lower-case name; the last one wins where a name is repeated.
        client: Name of the key that was presented, else the peer's address.
    """

    __slots__ = (
        *("_query", "_receive", "_slow", "body_limit", "client", "headers", "method", "params"),
        "path",
    )

    def __init__(
        self, scope: Scope, receive: Receive, path: str, body_limit: int, slow: SlowBodies
    ) -> None:
        self.method: str = scope["method"]
        self.path = path
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.params: Mapping[str, str] = {}
        self.body_limit = body_limit
        peer = scope.get("client")
        self.client: str = peer[0] if peer else "unknown"
        self._query: bytes = scope.get("query_string", b"")
        self._receive = receive
        self._slow = slow

    def header(self, name: bytes) -> str | None:
        """Return a header's text, None if it is absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """Return what follows the path's ``?``; the last one wins where a name is repeated."""
        return dict(parse_qsl(self._query.decode("latin-1"), keep_blank_values=True))

    @property
    def media_type(self) -> str:
        """Return the body's media type in lower case, without parameters; "" if not given."""
        value = self.headers.get(b"content-type", b"")
        return value.partition(b";")[0].strip().lower().decode("latin-1")

    async def body(self) -> bytes:
        """Return the body, decompressed.

        Raises:
            RequestError: 413, longer than `body_limit` as sent or once decompressed;
                408, it came too slowly; 400 or 415, the compression is broken or unknown.
            ClientDisconnectedError: The client went away.
        """
        declared = self.headers.get(b"content-length")
        if declared is not None and (len(declared) > 18 or int(declared) > self.body_limit):
            raise _too_large(self.body_limit, declared.decode("latin-1"))
        body = await self._read()
        encoding = self.headers.get(b"content-encoding")
        if encoding is None:
            return body
        return inflate(body, encoding.decode("latin-1"), self.body_limit)

    async def left(self) -> None:
        """Return once the client has gone away."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _read(self) -> bytes:
        slow = self._slow
        task = slow.begin()
        try:
            message = await self._receive()
            if not message.get("more_body", False):
                return self._chunk(message, 0)
            return await self._rest(message, task)
        except asyncio.CancelledError:
            if slow.gave_up(task):
                raise too_slow() from None
            raise
        finally:
            slow.end(task)

    async def _rest(self, message: Message, task: Task | None) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            chunk = self._chunk(message, size)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)
            size += len(chunk)
            self._slow.came(task, len(chunk))
            message = await self._receive()

    def _chunk(self, message: Message, before: int) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        chunk: bytes = message.get("body", b"")
        if before + len(chunk) > self.body_limit:
            raise _too_large(self.body_limit, f"{before + len(chunk)} so far")
        return chunk


def _too_large(limit: int, got: str) -> RequestError:
    return RequestError(
        413,
        f"body must be <= {limit} bytes, got {got}. Send fewer rows in one request, or raise"
        " serve.limits.body_mb in the policy.",
    )


def parse_json(body: bytes) -> Any:
    """Return the JSON value of *body*.

    Raises:
        RequestError: 400, it is empty, not UTF-8, not JSON, nested too deeply, or holds NaN.
    """
    if not body:
        raise RequestError(400, 'body must be JSON, got nothing. Send for example {"inputs": …}.')
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(400, f"body must be JSON: {error}.") from None


def shown(value: Any, most: int = 60) -> str:
    """Return *value* as an error text shows it: JSON-like and short."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"
