"""Open-loop load: every request goes out at its own instant, whatever became of those before.

Latency counts from the instant at which a request was due, not from when it was written: a server
that stalls is charged for all who would have come meanwhile (no coordinated omission). Several
processes send; each says how late it was itself, so that a generator that can't keep up is seen.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeAlias, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
# Status, headers by lower-case name, body -> predicted class (-1: none), what answered.
Reader: TypeAlias = Callable[[int, Mapping[str, str], bytes], tuple[int, str]]

UNANSWERED = 0  # stands for a status: nothing came, or the connection broke
MOST_CONNECTIONS = 512  # of a process; beyond, requests wait for one, and the wait counts
LEAD_S = 0.5  # between giving the processes their shares and the first instant


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and how answers are read.

    Attributes:
        bodies: One is sent at a time; which, the schedule says.
        read: A function of a module, for it travels to other processes.
    """

    url: str
    bodies: tuple[bytes, ...]
    headers: Mapping[str, str]
    read: Reader


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to send what: instants in s from the start, rising, and indexes into the bodies."""

    at_s: Floats
    body: Ints

    def share(self, part: int, parts: int) -> Schedule:
        """Return every *parts*-th request, from *part* on."""
        return Schedule(self.at_s[part::parts], self.body[part::parts])


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of the requests, in the schedule's order.

    Attributes:
        at_s: When each was due.
        late_s: How much later it was handed to a connection: the generator's own delay.
        latency_s: From due to wholly answered; infinite where nothing came.
        status: HTTP's, `UNANSWERED` where nothing came.
        predicted: Class, -1 where there is none.
        by: What answered, as `Reader` says.
    """

    at_s: Floats
    late_s: Floats
    latency_s: Floats
    status: Ints
    predicted: Ints
    by: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.at_s)


class Fleet:
    """Processes that send together."""

    def __init__(self, pool: ProcessPoolExecutor, processes: int) -> None:
        self._pool = pool
        self._processes = processes

    def send(self, target: Target, schedule: Schedule, *, grace_s: float) -> Outcomes:
        """Return the outcomes of *schedule*; what takes *grace_s* after its end is given up."""
        start = time.perf_counter() + LEAD_S  # CLOCK_MONOTONIC: the same in all processes
        shares = [schedule.share(n, self._processes) for n in range(self._processes)]
        parts = self._pool.map(
            _send_share, *zip(*((target, share, start, grace_s) for share in shares), strict=True)
        )
        return _merged(list(parts))


@contextmanager
def fleet(processes: int) -> Iterator[Fleet]:
    """Keep *processes* ready to send until the block ends."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        list(pool.map(_warm, range(processes)))
        yield Fleet(pool, processes)


def _warm(_number: int) -> None:
    time.sleep(0.2)  # long enough for each process to get one


def _merged(parts: Sequence[Outcomes]) -> Outcomes:
    at = np.concatenate([part.at_s for part in parts])
    order = np.argsort(at, kind="stable")
    by = [name for part in parts for name in part.by]

    def joined(field: str) -> NDArray[np.generic]:
        found: NDArray[np.generic] = np.concatenate([getattr(part, field) for part in parts])
        return found[order]

    fields = ("at_s", "late_s", "latency_s", "status", "predicted")
    columns = {name: joined(name) for name in fields}
    return Outcomes(**columns, by=tuple(by[n] for n in order))


def _send_share(target: Target, share: Schedule, start: float, grace_s: float) -> Outcomes:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(_Sender(target, share).run(start, grace_s))
    return uvloop.run(_Sender(target, share).run(start, grace_s))


class _Sender:
    """One process' connections; requests wait here where all are taken."""

    def __init__(self, target: Target, share: Schedule) -> None:
        parts = urlsplit(target.url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        head = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
        head += [f"{name}: {value}" for name, value in target.headers.items()]
        lead = "\r\n".join(head)
        self._requests = [
            f"{lead}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            for body in target.bodies
        ]
        self._read = target.read
        self._share = share
        count = len(share.at_s)
        self._late = np.zeros(count)
        self._done = np.full(count, np.inf)
        self._raw: list[tuple[bytes, bytes] | None] = [None] * count
        self._idle: list[_Connection] = []
        self._waiting: deque[int] = deque()
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._left = count
        self._over = asyncio.Event()
        self._start = 0.0

    async def run(self, start: float, grace_s: float) -> Outcomes:
        """Send all, wait for the answers."""
        self._start = start
        at = self._share.at_s
        for number, due in enumerate(at):
            while (ahead := start + due - time.perf_counter()) > 0:
                await asyncio.sleep(ahead)
            self._late[number] = time.perf_counter() - start - due
            self._give(number)
        end = start + (at[-1] if len(at) else 0.0) + grace_s
        if self._left:
            with suppress(TimeoutError):  # who was not answered counts as such
                await asyncio.wait_for(self._over.wait(), max(0.0, end - time.perf_counter()))
        await self._close()
        return self._outcomes()

    def _give(self, number: int) -> None:
        if self._idle:
            self._idle.pop().send(number, self._requests[self._share.body[number]])
            return
        self._waiting.append(number)
        if len(self._connections) + len(self._opening) < MOST_CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Connection(self), self._host, self._port)
        except OSError:
            if self._waiting:
                self.answered(self._waiting.popleft(), None)

    def joined(self, connection: _Connection) -> None:
        """Take a connection that is open."""
        self._connections.add(connection)
        self.free(connection)

    def free(self, connection: _Connection) -> None:
        """Give a connection that is idle its next request."""
        if self._waiting:
            number = self._waiting.popleft()
            connection.send(number, self._requests[self._share.body[number]])
        else:
            self._idle.append(connection)

    def answered(self, number: int, raw: tuple[bytes, bytes] | None) -> None:
        """Take the head and the body of an answer; None: there will be none."""
        if raw is not None:
            self._done[number] = time.perf_counter() - self._start
        self._raw[number] = raw
        self._left -= 1
        if not self._left:
            self._over.set()

    def gone(self, connection: _Connection) -> None:
        """Forget a connection that was closed."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    async def _close(self) -> None:
        self._waiting.clear()
        for connection in tuple(self._connections):
            connection.close()
        for task in tuple(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _outcomes(self) -> Outcomes:
        read = [_reading(raw, self._read) for raw in self._raw]
        return Outcomes(
            at_s=self._share.at_s,
            late_s=self._late,
            latency_s=self._done - self._share.at_s,
            status=np.array([status for status, _, _ in read], np.int64),
            predicted=np.array([predicted for _, predicted, _ in read], np.int64),
            by=tuple(by for _, _, by in read),
        )


class _Connection(asyncio.Protocol):
    """One keep-alive connection: a request at a time."""

    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._buffer = bytearray()
        self._number: int | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from nothing
        self._sender.joined(self)

    def send(self, number: int, request: bytes) -> None:
        """Write a request."""
        assert self._transport is not None
        self._number = number
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head) or self._number is None:
            return
        number, self._number = self._number, None
        self._sender.answered(number, (bytes(head), bytes(body)))
        self._buffer.clear()
        if b"\r\nconnection: close" in head.lower():
            self.close()
        else:
            self._sender.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sender.gone(self)
        if self._number is not None:
            self._sender.answered(self._number, None)

    def close(self) -> None:
        """Close, and forget what was asked."""
        self._number = None
        self._sender.gone(self)
        if self._transport is not None:
            self._transport.abort()


def _content_length(head: bytearray) -> int:
    lower = head.lower()
    at = lower.find(b"content-length:")
    if at < 0:
        raise ValueError("an answer without Content-Length: this generator reads none such")
    end = lower.find(b"\r\n", at)
    return int(lower[at + 15 : end if end >= 0 else len(lower)])


def _reading(raw: tuple[bytes, bytes] | None, read: Reader) -> tuple[int, int, str]:
    """Return status, predicted class, and what answered."""
    if raw is None:
        return UNANSWERED, -1, ""
    first, *lines = raw[0].decode("latin-1").split("\r\n")
    status = int(first.split(" ", 2)[1])
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return (status, *read(status, headers, raw[1]))
