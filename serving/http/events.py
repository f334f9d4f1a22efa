"""``GET /events``: what happened, as a list or as a stream of server-sent events.

Source:
    https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.events import KEPT, Event, EventLog
from scanflow_serve.serving.http.exchange import Exchange, Headers, Reply, json_reply, shown
from scanflow_serve.serving.http.site import Site

STREAM = b"text/event-stream"
KEEP_ALIVE_S = 15.0  # shorter than the idle time of common proxies (60 s)
MOST_STREAMS = 64  # each holds a connection for as long as its client likes
LIMIT = 100  # events of a list, where the client says nothing
HEADERS: Headers = [(b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]  # nginx's
NOTHING = b": nothing new\n\n"


class EventStreams:
    """The log of events, and who follows it; for one event loop, but `EventLog.add`.

    Args:
        keep_alive_s: Between two comments on a stream on which nothing happens.

    Attributes:
        closed: Streams end, and none begins.
    """

    def __init__(self, log: EventLog, keep_alive_s: float = KEEP_ALIVE_S) -> None:
        self.log = log
        self.keep_alive_s = keep_alive_s
        self.followers: set[Follower] = set()
        self.closed = False

    def open(self) -> None:
        """Let streams begin."""
        self.closed = False

    def close(self) -> None:
        """End all streams: a server that stops waits for its open connections."""
        self.closed = True
        for follower in self.followers:
            follower.wake.set()

    def follow(self, after: int) -> Follower:
        """Return one client's stream, from the event after the one with the id *after*.

        Raises:
            RequestError: 503, too many follow already, or the server stops.
        """
        if self.closed or len(self.followers) >= MOST_STREAMS:
            raise RequestError(
                503,
                f"At most {MOST_STREAMS} clients may follow the events, and none while the server"
                " stops. Retry later, or poll /events?after=ID.",
            )
        return Follower(self, after)


class Follower:
    """One client's stream of events; counts from the moment it is made until it is closed."""

    def __init__(self, streams: EventStreams, after: int) -> None:
        self._streams = streams
        self._after = after
        self.wake = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._end = streams.log.listen(lambda: loop.call_soon_threadsafe(self.wake.set))
        streams.followers.add(self)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what is sent, until the server stops."""
        streams = self._streams
        yield NOTHING  # headers reach the client now, not with the first event
        while not streams.closed:
            self.wake.clear()
            found = streams.log.after(self._after)
            if found:
                self._after = found[-1][0]
                yield b"".join(_message(*each) for each in found)
                continue
            try:
                await asyncio.wait_for(self.wake.wait(), streams.keep_alive_s)
            except TimeoutError:
                yield NOTHING

    def close(self) -> None:
        """Let another client follow."""
        self._end()
        self._streams.followers.discard(self)


def _message(identity: int, event: Event) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (identity, orjson.dumps(_json(identity, event)))


def _json(identity: int, event: Event) -> dict[str, object]:
    return {"id": identity, **event.to_json()}


async def events(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /events``: a stream where the client accepts one, else a list."""
    after = _whole(exchange, "after")
    if STREAM.decode() in (exchange.header(b"accept") or "").lower():
        seen = _last_seen(exchange)
        seen = after if seen is None else seen
        follower = site.streams.follow(site.streams.log.latest if seen is None else seen)
        return Reply(200, b"", STREAM, HEADERS, follower)
    limit = _whole(exchange, "limit")
    if limit is not None and not 1 <= limit <= KEPT:
        raise RequestError(400, f"limit must be 1 to {KEPT}, got {limit}.")
    found = site.streams.log.after(after, limit or LIMIT)
    latest = found[-1][0] if found else site.streams.log.latest
    return json_reply({"events": [_json(*each) for each in found], "latest": latest})


def _whole(exchange: Exchange, name: str) -> int | None:
    text = exchange.query.get(name)
    return None if text is None else _number(text, name)


def _last_seen(exchange: Exchange) -> int | None:
    """Return the id after which a client that reconnects wants to go on."""
    text = exchange.header(b"last-event-id")
    return None if not text else _number(text, "Last-Event-ID")


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise RequestError(400, f"{where} must be a whole number, got {shown(text)}.")
    return int(text)
