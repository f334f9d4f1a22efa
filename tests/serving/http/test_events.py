"""What happened, as a list and as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from scanflow_serve.runtime.events import Event
from scanflow_serve.serving.http import events as routes

SSE = {"accept": "text/event-stream"}


def happen(client, *texts):
    """Let the engine tell of something, and return the ids."""
    ids = []
    for text in texts:
        client.home.notify(Event("load", "digits-mlp", text))
        ids.append(client.app.application.streams.log.latest)
    return ids


class Stream:
    """One client of the stream, on the application's own loop."""

    def __init__(self, client, path="/events", headers=None):
        self.status = None
        self.received = asyncio.Queue()
        self.gone = asyncio.Event()
        lines = [(b"accept", b"text/event-stream"), *(headers or {}).items()]
        where, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": "GET",
            "path": where,
            "query_string": query.encode(),
            "headers": lines,
        }
        self.task = asyncio.create_task(client.app(scope, self._receive, self._send))
        self._asked = False

    async def _receive(self):
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            await self.received.put(message)

    async def texts(self, count):
        """Return the next texts; comments are passed over."""
        found = []
        while len(found) < count:
            body = (await self.received.get())["body"].decode()
            for block in body.strip().split("\n\n"):
                if not block.startswith(":"):
                    identity, data = block.split("\n")
                    event = json.loads(data.removeprefix("data: "))
                    assert identity == f"id: {event['id']}"
                    found.append(event["text"])
        return found

    async def left(self):
        self.gone.set()
        await self.task


def test_events_are_listed_from_where_a_client_left_off(serve):
    client = serve()
    first, *_ = happen(client, "a", "b", "c")
    every = client.get("/events").json()
    assert [event["text"] for event in every["events"]] == ["a", "b", "c"]
    assert every["events"][0]["kind"] == "load"
    later = client.get(f"/events?after={first}&limit=1").json()
    assert [event["text"] for event in later["events"]] == ["b"]
    assert [e["text"] for e in client.get(f"/events?after={later['latest']}").json()["events"]] == [
        "c"
    ]
    assert client.get(f"/events?after={every['latest']}").json() == {
        "events": [],
        "latest": every["latest"],
    }


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("after=x", "after must be a whole number, got 'x'"),
        ("after=-1", "after must be a whole number"),
        ("limit=0", "limit must be 1 to 1000, got 0"),
        ("limit=1001", "limit must be 1 to 1000"),
        ("limit=", "limit must be a whole number, got ''"),
    ],
)
def test_a_query_that_is_none_is_refused(serve, query, says):
    reply = serve().get(f"/events?{query}")
    assert reply.status_code == 400
    assert says in reply.json()["detail"]


def test_a_stream_tells_of_what_happens_from_now_on(serve):
    client = serve()
    happen(client, "before")

    async def follow():
        stream = Stream(client)
        comment = (await stream.received.get())["body"]
        happen(client, "a", "b")
        texts = await stream.texts(2)
        await stream.left()
        return stream, comment, texts

    stream, comment, texts = client.run(follow())
    assert stream.status == 200
    assert stream.headers[b"content-type"] == b"text/event-stream"
    assert b"content-length" not in stream.headers
    assert comment.startswith(b":")
    assert texts == ["a", "b"]
    assert len(client.app.application.streams.followers) == client.app.application.in_flight == 0


@pytest.mark.parametrize("by", ["header", "query"])
def test_a_client_that_reconnects_misses_nothing(serve, by):
    client = serve()
    seen, *_ = happen(client, "seen", "missed", "missed too")

    async def follow():
        if by == "header":
            # EventSource repeats its URL, and sends what it saw last
            stream = Stream(client, "/events?after=0", {b"last-event-id": b"%d" % seen})
        else:
            stream = Stream(client, f"/events?after={seen}")
        texts = await stream.texts(2)
        await stream.left()
        return texts

    assert client.run(follow()) == ["missed", "missed too"]


def test_comments_keep_a_quiet_stream_alive(serve):
    client = serve()
    client.app.application.streams.keep_alive_s = 0.005

    async def follow():
        stream = Stream(client)
        bodies = [(await stream.received.get())["body"] for _ in range(4)]
        await stream.left()
        return bodies

    assert client.run(follow()) == [routes.NOTHING] * 4


def test_streams_outlive_the_policy_and_end_with_the_server(serve):
    client = serve()

    async def follow():
        stream = Stream(client)
        await stream.received.get()
        text = f"{client.engine.policy_file.text}\ndescription: another\n"
        assert (await client.send("PUT", "/policy", content=text)).status_code == 200
        texts = await stream.texts(1)
        await client.app.application.shutdown()
        await stream.task
        last = stream.received.get_nowait()
        return texts, last

    texts, last = client.run(follow())
    assert texts == [
        "Another policy serves from now on, by classify:digits-mlp/onnxruntime-fp32x1."
    ]
    assert not last.get("more_body", False)


def test_streams_are_bounded_and_lists_are_not(serve, monkeypatch):
    monkeypatch.setattr(routes, "MOST_STREAMS", 2)
    client = serve()

    async def crowd():
        streams = [Stream(client) for _ in range(3)]
        for stream in streams[:2]:
            await stream.received.get()
        await streams[2].task
        listed = await client.send("GET", "/events")
        for stream in streams[:2]:
            await stream.left()
        return [stream.status for stream in streams], listed.status_code

    assert client.run(crowd()) == ([200, 200, 503], 200)


def test_a_client_that_does_not_read_holds_up_nobody(serve):
    client = serve()

    async def follow():
        stalled, reader = Stream(client), Stream(client)
        full = asyncio.Event()

        async def blocked(message):
            await full.wait()

        stalled._send = blocked
        scope = {"type": "http", "method": "GET", "path": "/events", "headers": list(SSE_LINES)}
        hung = asyncio.create_task(client.app(scope, stalled._receive, blocked))
        await reader.received.get()
        happen(client, "a")
        texts = await reader.texts(1)
        hung.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await hung
        await stalled.left()
        await reader.left()
        return texts

    assert client.run(follow()) == ["a"]


SSE_LINES = [(b"accept", b"text/event-stream")]


def test_head_of_a_stream_is_its_headers(serve):
    reply = serve().request("HEAD", "/events", headers=SSE)
    assert (reply.status_code, reply.content) == (200, b"")
    assert reply.headers["content-type"] == "text/event-stream"
