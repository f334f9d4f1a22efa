"""The generator sends on time whatever the server does, and charges it for every wait."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

import numpy as np
import openloop
import pytest
import readers
from openloop import Outcomes, Schedule, Target


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    pause_s = 0.0
    one_at_a_time: Lock | None = None
    arrivals: list[tuple[float, bytes]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.arrivals.append((time.perf_counter(), body))
        if body == b"drop":
            self.close_connection = True
            return
        if self.server.one_at_a_time is None:
            time.sleep(self.server.pause_s)
        else:
            with self.server.one_at_a_time:
                time.sleep(self.server.pause_s)
        self.send_response(503 if body == b"full" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Scanflow-Variant", "me/onnxruntime-fp32")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.arrivals = []
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def fleet() -> Iterator[openloop.Fleet]:
    with openloop.fleet(2) as made:
        yield made


def answer(number: int) -> bytes:
    """Return a body that, sent back, reads as class *number*."""
    return json.dumps({"outputs": [{"data": [0] * number + [1]}]}).encode()


def sent(
    fleet: openloop.Fleet,
    server: _Server,
    at: list[float],
    bodies: tuple[bytes, ...] = (answer(0),),
    grace_s: float = 5.0,
) -> Outcomes:
    target = Target(f"http://127.0.0.1:{server.server_port}/infer", bodies, {}, readers.oip)
    which = np.arange(len(at)) % len(bodies)
    return fleet.send(target, Schedule(np.array(at), which), grace_s=grace_s)


def test_every_request_is_sent_once_and_its_answer_is_its_own(
    fleet: openloop.Fleet, server: _Server
) -> None:
    bodies = tuple(answer(n) for n in range(40))
    found = sent(fleet, server, [n / 200 for n in range(40)], bodies)
    assert sorted(body for _, body in server.arrivals) == sorted(bodies)
    assert found.predicted.tolist() == list(range(40))
    assert set(found.by) == {"me"}
    assert set(found.status.tolist()) == {200}


def test_requests_go_out_although_none_was_answered(fleet: openloop.Fleet, server: _Server) -> None:
    """Closed-loop clients would send the second only after the first's answer."""
    server.pause_s = 1.0
    sent(fleet, server, [0.0, 0.0, 0.1, 0.1, 0.2, 0.2])
    first = min(at for at, _ in server.arrivals)
    assert max(at for at, _ in server.arrivals) - first < server.pause_s


def test_latency_counts_from_the_instant_at_which_a_request_was_due(
    fleet: openloop.Fleet, server: _Server
) -> None:
    """Served one at a time, the n-th of requests due together waits n times as long."""
    server.pause_s, server.one_at_a_time = 0.05, Lock()
    found = sent(fleet, server, [0.0] * 6)
    waits = np.sort(found.latency_s) / server.pause_s
    assert (waits >= np.arange(1, 7)).all()


def test_wait_for_a_connection_is_charged_to_the_server(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openloop, "MOST_CONNECTIONS", 1)
    server.pause_s = 0.05
    target = Target(f"http://127.0.0.1:{server.server_port}/infer", (answer(0),), {}, readers.oip)
    share = Schedule(np.zeros(4), np.zeros(4, np.int64))
    found = openloop._send_share(target, share, time.perf_counter() + 0.1, 5.0)
    assert (np.sort(found.latency_s) >= server.pause_s * np.arange(1, 5)).all()


def test_refusals_keep_their_status(fleet: openloop.Fleet, server: _Server) -> None:
    found = sent(fleet, server, [0.0, 0.01, 0.02, 0.03], (answer(1), b"full"))
    assert found.status.tolist() == [200, 503, 200, 503]


def test_broken_connection_is_no_answer_and_spoils_no_other(
    fleet: openloop.Fleet, server: _Server
) -> None:
    found = sent(fleet, server, [0.0, 0.02, 0.04, 0.06, 0.08, 0.1], (answer(1), answer(2), b"drop"))
    unanswered = found.status == openloop.UNANSWERED
    assert unanswered.tolist() == [False, False, True] * 2
    assert np.isinf(found.latency_s[unanswered]).all()


def test_what_outlasts_the_grace_is_given_up(fleet: openloop.Fleet, server: _Server) -> None:
    server.pause_s = 60.0
    found = sent(fleet, server, [0.0, 0.0], grace_s=0.2)
    assert found.status.tolist() == [openloop.UNANSWERED] * 2


def test_server_that_is_not_there_answers_nothing(fleet: openloop.Fleet) -> None:
    target = Target("http://127.0.0.1:9/infer", (answer(0),), {}, readers.oip)
    found = fleet.send(target, Schedule(np.zeros(3), np.zeros(3, np.int64)), grace_s=2.0)
    assert found.status.tolist() == [openloop.UNANSWERED] * 3


def test_outcomes_are_in_the_order_of_the_schedule(fleet: openloop.Fleet, server: _Server) -> None:
    at = [0.0, 0.0, 0.01, 0.02, 0.02, 0.03]
    found = sent(fleet, server, at)
    assert found.at_s.tolist() == at
    assert (found.late_s >= 0).all()
    assert (found.latency_s > found.late_s).all()
