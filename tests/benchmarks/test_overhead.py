"""The benchmark counts what it should, and its tables say what was measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import contenders
import load
import overhead
import pytest
import tables
from page import Aim
from tables import Burst


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    bodies: list[bytes]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)
        self.send_response(503 if self.path == "/full" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.bodies = []
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(params=["wrk", "asyncio"])
def generator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name: str = request.param
    if name == "wrk" and load.generator() != "wrk":
        pytest.skip("wrk is not installed")
    monkeypatch.setattr(load, "generator", lambda: name)
    return name


BODY = load.Body(b'{"inputs": []}', {"Content-Type": "application/json"})


@pytest.mark.usefixtures("generator")
@pytest.mark.parametrize("connections", [1, 3])
def test_every_answer_is_counted(server: _Server, connections: int) -> None:
    url = f"http://127.0.0.1:{server.server_port}/infer"
    figures = load.burst(url, BODY, connections=connections, seconds=1)
    assert figures.failures == 0
    assert 0 <= len(server.bodies) - figures.requests <= connections  # wrk leaves the last unread
    assert set(server.bodies) == {BODY.content}
    assert 0 < figures.p50_ms <= figures.p99_ms


@pytest.mark.usefixtures("generator")
def test_errors_are_failures(server: _Server) -> None:
    url = f"http://127.0.0.1:{server.server_port}/full"
    figures = load.burst(url, BODY, connections=2, seconds=1)
    assert figures.failures == figures.requests > 0


def burst(contender: str, connections: int, **figures: float) -> Burst:
    known = {"rps": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_us": 100.0}
    return Burst(contender=contender, connections=connections, **(known | figures))


def test_medians_are_over_the_rounds_of_one_contender() -> None:
    bursts = [burst("bare", 1, rps=n) for n in (10.0, 30.0, 1000.0)]
    bursts += [burst("bare", 16, rps=1.0), burst("other", 1, rps=2.0)]
    assert tables.medians(bursts, "bare", 1).rps == 30.0


def test_aim_that_falls_short_is_said_to() -> None:
    bursts = [burst("scanflow-bentoml", n, rps=5000.0) for n in (1, 16)]
    bursts += [burst("bentoml", n, rps=600.0) for n in (1, 16)]
    (aim,) = tables.aims({}, bursts)
    assert (round(aim.value, 2), aim.bound, aim.met) == (8.33, 10, False)


@pytest.mark.parametrize(("value", "at_least", "met"), [(2.0, True, True), (2.1, False, False)])
def test_bounds_hold_in_their_direction(value: float, at_least: bool, met: bool) -> None:
    assert Aim("text", value, 2.0, at_least=at_least).met is met


def test_tables_hold_what_was_measured() -> None:
    result: dict[str, Any] = {
        "machine": "2 x Chip",
        "generator": "wrk",
        "date": "2026-01-01",
        "memory_mb": {"bare": 40.0},
        "image": {"added_ms": 0.25},
    }
    bursts = [burst("bare", n, cpu_us=70.0) for n in (1, 16)]
    text = tables.table(result, [contenders.bare()], bursts)
    assert "| bare uvicorn, bare model | 1.000 ms | 2.00 ms | 1,000 |" in text
    assert "binary request: <= 0.5 ms | 0.25 ms | met |" in text


def test_image_body_holds_the_whole_image() -> None:
    body = overhead.image_body()
    head = int(body.headers["Inference-Header-Content-Length"])
    assert len(body.content) - head == 224 * 224 * 3 * 4


def test_readme_has_the_place_for_the_tables() -> None:
    text = (contenders.ROOT / "README.md").read_text()
    assert text.count("<!-- overhead -->") == text.count("<!-- /overhead -->") == 1


@pytest.mark.slow
def test_bare_contender_is_measured_without_failures(tmp_path: Path) -> None:
    """The peers' environments take minutes to make; the bare one runs in this one."""
    import dataclasses

    bare = contenders.bare()
    here = Path(sys.executable).parent / "uvicorn"
    contender = dataclasses.replace(
        bare, command=lambda port: [here, *bare.command(port)[1:]], cwd=tmp_path
    )
    contenders.BUILD.mkdir(parents=True, exist_ok=True)
    with contenders.served(contender) as server:
        found = overhead.measured(contender, server, overhead.digits_body(), 2, 1.0)
        pid = server.process.pid
    assert found.cpu_us > 0
    assert found.rps > 0
    assert subprocess.run(["kill", "-0", str(pid)], capture_output=True).returncode == 1
