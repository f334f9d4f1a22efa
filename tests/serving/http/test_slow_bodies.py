from __future__ import annotations

import asyncio

import orjson
import pytest

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.serving.http.exchange import Exchange
from scanflow_serve.serving.http.slow_bodies import PATIENCE_S, SLOWEST, SlowBodies


class FakeClock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def part(body: bytes, more: bool = True):
    return {"type": "http.request", "body": body, "more_body": more}


class Upload:
    """A client that sends when told to, and the task that reads it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.slow = SlowBodies(self.clock)
        self.parts: asyncio.Queue = asyncio.Queue()
        scope = {"method": "POST", "headers": []}
        exchange = Exchange(scope, self.parts.get, "/predict", 10 * SLOWEST, self.slow)
        self.reading = asyncio.create_task(exchange.body())

    async def send(self, body: bytes, more: bool = True) -> None:
        self.parts.put_nowait(part(body, more))
        await self.settle()

    async def settle(self) -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    async def at(self, seconds: float) -> None:
        self.clock.now = seconds
        self.slow.sweep()
        await self.settle()


def test_a_body_that_never_comes_is_given_up_after_its_time():
    async def story():
        upload = Upload()
        await upload.settle()
        await upload.at(PATIENCE_S)
        assert not upload.reading.done()
        await upload.at(PATIENCE_S + 0.1)
        with pytest.raises(RequestError, match=r"body must begin within 30 s .* got less") as error:
            await upload.reading
        assert error.value.status == 408
        assert len(upload.slow) == 0

    asyncio.run(story())


def test_bytes_that_come_buy_time_at_the_slowest_rate():
    async def story():
        upload = Upload()
        await upload.send(b"x" * SLOWEST * 5)
        await upload.at(PATIENCE_S + 4.9)
        assert not upload.reading.done()
        await upload.send(b"y", more=False)
        assert await upload.reading == b"x" * SLOWEST * 5 + b"y"
        assert len(upload.slow) == 0

    asyncio.run(story())


def test_a_drop_now_and_then_does_not_hold_the_request():
    async def story():
        upload = Upload()
        for second in range(0, int(PATIENCE_S), 5):
            await upload.send(b"x")
            await upload.at(second)
        await upload.at(PATIENCE_S + 1)
        with pytest.raises(RequestError, match="got less"):
            await upload.reading

    asyncio.run(story())


def test_a_cancellation_by_somebody_else_stays_one():
    async def story():
        upload = Upload()
        await upload.settle()
        upload.reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload.reading
        assert len(upload.slow) == 0

    asyncio.run(story())


def test_the_client_is_told_and_the_connection_closed(serve, row):
    client = serve()
    clock = FakeClock()
    slow = client.app.application.slow_bodies = SlowBodies(clock)
    sent = []

    async def story():
        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
        never = asyncio.Event()
        answering = asyncio.create_task(client.app(scope, never.wait, send))
        while not len(slow):
            await asyncio.sleep(0)
        clock.now = PATIENCE_S + 1
        slow.sweep()
        await answering

    asyncio.run(story())
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert orjson.loads(sent[1]["body"])["title"] == "Request Timeout"
    assert client.post("/predict", json={"inputs": row}).status_code == 200
