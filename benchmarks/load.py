"""Closed-loop load on one URL: wrk where it is installed, else a generator in asyncio."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

# wrk calls `done` at the end; latencies are in microseconds.
_LUA = """
wrk.method = "POST"
{headers}
local requests, sent = {}, 0
init = function()
  for number = 1, {count} do
    local file = io.open("{folder}/" .. number, "rb")
    requests[number] = wrk.format(nil, nil, nil, file:read("*all"))
    file:close()
  end
end
request = function()
  sent = sent % {count} + 1
  return requests[sent]
end
done = function(summary, latency, requests)
  local e = summary.errors
  print(string.format("RESULT %d %d %d %d %f %f", summary.requests, summary.duration,
    e.status, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body and headers."""

    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one burst of requests measured; failed requests are counted, and spoil a round."""

    requests: int
    failures: int
    duration_s: float
    p50_ms: float
    p99_ms: float

    @property
    def rps(self) -> float:
        """Return requests per second."""
        return self.requests / self.duration_s


def generator() -> str:
    """Return the name of the load generator that `burst` uses here."""
    return "wrk" if shutil.which("wrk") else "asyncio"


def burst(url: str, body: Body | Sequence[Body], *, connections: int, seconds: float) -> Figures:
    """Return figures of *connections* clients that each ask again as soon as they are answered.

    Args:
        body: Several are sent in turn, with the headers of the first.
    """
    bodies = (body,) if isinstance(body, Body) else tuple(body)
    if generator() == "wrk":
        return _wrk(url, bodies, connections, seconds)
    return asyncio.run(_asyncio(url, bodies, connections, seconds))


def _wrk(url: str, bodies: Sequence[Body], connections: int, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        for number, body in enumerate(bodies, 1):
            (Path(folder) / str(number)).write_bytes(body.content)
        headers = "\n".join(f'wrk.headers["{k}"] = "{v}"' for k, v in bodies[0].headers.items())
        places = {"{folder}": folder, "{count}": str(len(bodies)), "{headers}": headers}
        text = _LUA
        for place, value in places.items():
            text = text.replace(place, value)
        script.write_text(text)
        whole = max(1, round(seconds))  # wrk takes whole seconds
        command = ["wrk", "-t1", f"-c{connections}", f"-d{whole}s", "-s", str(script), url]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    line = next(line for line in out.splitlines() if line.startswith("RESULT"))
    requests, duration_us, status, socket, p50_us, p99_us = map(float, line.split()[1:])
    return Figures(
        requests=int(requests),
        failures=int(status + socket),
        duration_s=duration_us / 1e6,
        p50_ms=p50_us / 1e3,
        p99_ms=p99_us / 1e3,
    )


@dataclass(slots=True)
class _Client(asyncio.Protocol):
    """One connection: sends, waits for the whole answer, sends again."""

    requests: Iterator[bytes]
    until: float
    latencies_s: list[float] = field(default_factory=list)
    failures: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _sent: float = 0.0
    _transport: asyncio.Transport | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, content = self._buffer.partition(b"\r\n\r\n")
        if not found or len(content) < _content_length(head):
            return
        now = time.perf_counter()
        self.latencies_s.append(now - self._sent)
        self.failures += b" 200 " not in head[:13]
        self._buffer.clear()
        if now < self.until:
            self._send()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failures += time.perf_counter() < self.until
        self.closed.set()


def _content_length(head: bytearray) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise ValueError("an answer without Content-Length: this generator reads none such")


def _request(url: str, body: Body, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    head = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    head += [f"{name}: {value}" for name, value in headers.items()]
    head += [f"Content-Length: {len(body.content)}", "", ""]
    return "\r\n".join(head).encode() + body.content


async def _asyncio(url: str, bodies: Sequence[Body], connections: int, seconds: float) -> Figures:
    parts = urlsplit(url)
    requests = cycle([_request(url, body, bodies[0].headers) for body in bodies])
    loop, start = asyncio.get_running_loop(), time.perf_counter()
    clients = [_Client(requests, start + seconds) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda c=client: c, parts.hostname, parts.port)
    await asyncio.wait_for(
        asyncio.gather(*(client.closed.wait() for client in clients)), seconds + 60
    )
    took = time.perf_counter() - start
    latencies = sorted(1e3 * s for client in clients for s in client.latencies_s)
    return Figures(
        requests=len(latencies),
        failures=sum(client.failures for client in clients),
        duration_s=took,
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
    )
