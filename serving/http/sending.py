"""Replies onto the wire: whole and compressed, or piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from scanflow_serve.serving.http.compression import WORTHWHILE, accepted_encoding, deflate
from scanflow_serve.serving.http.exchange import (
    ClientDisconnectedError,
    Exchange,
    Headers,
    Message,
    Reply,
    Send,
    Stream,
)


async def send_reply(reply: Reply, exchange: Exchange, send: Send) -> None:
    """Send *reply*, compressed where that is worth it and the client takes it."""
    if reply.stream is not None:
        await _send_stream(reply, reply.stream, exchange, send)
        return
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


async def _send_stream(reply: Reply, stream: Stream, exchange: Exchange, send: Send) -> None:
    """Send the reply's stream until it ends, or the client has gone away."""
    headers: Headers = [(b"content-type", reply.content_type), *reply.headers]
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        if exchange.method != "HEAD":
            await _until_left(_send_chunks(stream, send), exchange)
        await send({"type": "http.response.body", "body": b""})
    finally:
        stream.close()


async def _until_left(work: Coroutine[Any, Any, None], exchange: Exchange) -> None:
    """Do *work* unless the client goes away before.

    Raises:
        ClientDisconnectedError: It has.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(exchange.left())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
    if working.cancelled():
        raise ClientDisconnectedError
    working.result()


async def _send_chunks(stream: Stream, send: Send) -> None:
    async for chunk in stream.chunks():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
