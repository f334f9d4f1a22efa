"""Clients that hold a load on a server, and count what became of each request."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

SIZES = (1, 2, 3, 1, 2, 3, 1, 60)  # rows of requests; the last is long enough for another thread
PAUSE_S = 0.002  # between a reply and the client's next request
REFUSALS = (503, 504)


@dataclass
class Ledger:
    """What became of every request.

    Attributes:
        sent: Requests begun.
        statuses: Replies by status.
        cut: Requests whose connection ended before their reply.
        ids: Prediction ids of all answers, each of which must be new.
        variants: Answers by variant.
        wrong: What no request may bring, told for people.
    """

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    cut: int = 0
    ids: set[str] = field(default_factory=set)
    variants: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def answered(self) -> int:
        return self.statuses[200]

    def count(self, identity: str, rows: int, status: int, headers: dict[str, str], body: bytes):
        """Count one reply; a refusal must say when to retry, an answer echo its id."""
        with self.lock:
            self.statuses[status] += 1
            if status == 200:
                self._answer(identity, rows, json.loads(body))
            elif status not in REFUSALS or "retry-after" not in headers:
                self.wrong.append(f"{identity}: {status} {headers} {body[:300]!r}")

    def _answer(self, identity: str, rows: int, document):
        found = document["parameters"]["scanflow_prediction_ids"].split(",")
        (output,) = document["outputs"]
        if document["id"] != identity or output["shape"] != [rows, 10] or len(found) != rows:
            self.wrong.append(f"{identity}: was answered {document}")
        if None in output["data"]:
            self.wrong.append(f"{identity}: was answered NaN by {document['parameters']}")
        if not self.ids.isdisjoint(found):
            self.wrong.append(f"{identity}: was answered with ids that another answer has")
        self.ids.update(found)
        self.variants[document["parameters"]["scanflow_variant"]] += 1


class Load:
    """Clients on threads, each with one request at a time.

    Args:
        rows: What is sent, shape (n, 64); see `SIZES`.
        deadline_ms: Of every request.
    """

    def __init__(self, port: int, rows: np.ndarray, *, deadline_ms: float) -> None:
        self.ledger = Ledger()
        self._port = port
        self._rows = rows.astype(float).tolist()
        self._headers = {
            "Content-Type": "application/json",
            "Scanflow-Deadline-Ms": str(deadline_ms),
        }
        self._odd: Sequence[list[float]] = ()
        self._stopped = threading.Event()

    @contextmanager
    def held(self, clients: int) -> Iterator[Ledger]:
        """Hold the load while the block runs; then wait for every reply."""
        threads = [threading.Thread(target=self._client, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self.ledger
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()

    @contextmanager
    def mixed_with(self, rows: np.ndarray) -> Iterator[None]:
        """Send these rows, too, while the block runs."""
        self._odd = rows.tolist()
        try:
            yield
        finally:
            self._odd = ()

    def more_answers(self, count: int, limit_s: float = 60.0) -> None:
        """Wait until *count* more requests are answered."""
        target, until = self.ledger.answered + count, time.monotonic() + limit_s
        while self.ledger.answered < target:
            assert time.monotonic() < until, f"{self.ledger.statuses} after {limit_s:g} s"
            time.sleep(0.005)

    def _client(self, number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        turn = 0
        while not self._stopped.is_set():
            turn += 1
            if not self._ask(connection, f"{number}-{turn}", turn):
                connection.close()
                time.sleep(0.02)
            time.sleep(PAUSE_S)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, identity: str, turn: int) -> bool:
        """Send one request; return whether its reply came."""
        size = SIZES[turn % len(SIZES)]
        rows = [self._rows[(turn + k) % len(self._rows)] for k in range(size)]
        if (odd := self._odd) and turn % 2:
            rows[0] = odd[turn // 2 % len(odd)]
        tensor = {"name": "pixels", "datatype": "FP32", "shape": [len(rows), 64], "data": rows}
        body = json.dumps({"id": identity, "inputs": [tensor]})
        with self.ledger.lock:
            self.ledger.sent += 1
        try:
            connection.request("POST", "/v2/models/digits/infer", body, self._headers)
            reply = connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException):
            with self.ledger.lock:
                self.ledger.cut += 1
            return False
        headers = {name.lower(): value for name, value in reply.getheaders()}
        self.ledger.count(identity, len(rows), reply.status, headers, content)
        return True
