"""A server of the page with a world that tests may change: routes as JSON, events as a stream."""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from scanflow_serve.runtime.checks.explanations import Explanation, Heat
from scanflow_serve.runtime.checks.flagged import FlaggedRows
from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.checks.inspection import Finding
from scanflow_serve.runtime.checks.protocol import Verdicts
from scanflow_serve.runtime.checks.rows import Answers, Observed
from scanflow_serve.runtime.events import iso_time
from scanflow_serve.serving.http.ui import ASSETS, PAGE, SECURITY

NOW = time.time()
NEAR, FAR = "digits-cnn/onnxruntime-fp32x2", "digits-mlp/onnxruntime-fp32x1"


def stats() -> dict[str, Any]:
    """Return five minutes of traffic."""
    points = []
    for index in range(60):
        wave = 1 + math.sin(index / 7)
        points.append(
            {
                "at": NOW - (59 - index) * 5,
                "requests": round(400 * wave) + 50,
                "failed": 12 if index in (40, 41) else 0,
                "rows": round(400 * wave) + 50,
                "missed": 7 if index in (40, 41) else 0,
                "queued": 30 if index in (40, 41) else 1,
                "variants": {NEAR: round(400 * wave), FAR: 50},
                "p50_ms": 0.8 + 0.2 * wave,
                "p95_ms": 1.9 + wave,
                "p99_ms": 4.0 + 3 * wave if index != 30 else None,
            }
        )
    return {"interval_s": 5.0, "points": points}


def _candidate(identity: str, accuracy: float, rejected: str | None) -> dict[str, Any]:
    return {
        "id": f"classify:{identity}",
        "run": "classify",
        "variants": [],
        "pareto": True,
        "measurement": {
            "accuracy": accuracy,
            "memory_mb": 12.5,
            "latency": {"8": {"p50_ms": 2.0, "p95_ms": 2.4}, "1": {"p50_ms": 0.7, "p95_ms": 0.9}},
        },
        "rejected": rejected and {"code": "objective", "reason": rejected},
    }


def plan() -> dict[str, Any]:
    options = [
        {
            "id": f"classify:{variant}",
            "variant": variant,
            "accuracy": accuracy,
            "loaded_as": "standby",
            "in_rotation": ready,
            "ratio": ratio,
            "last_used": iso_time(NOW - 3),
            "memory_mb": 12.5,
        }
        for variant, accuracy, ratio, ready in (
            (NEAR, 0.981, 1.34, True),
            (FAR, 0.953, 1.02, False),
        )
    ]
    return {
        "policy": "digits",
        "target": {"index": 0, "when": "", "run": "classify"},
        "objective": "maximize accuracy",
        "chosen": {"id": f"classify:{NEAR}"},
        "feasible": True,
        "notes": ["Section feedback is not active in this version."],
        "candidates": [
            _candidate(NEAR, 0.981, None),
            _candidate(FAR, 0.953, f"accuracy 0.953 is below that of {NEAR}, 0.981"),
        ],
        "pinned": None,
        "queue": {"queued": 3, "running": 2, "in_flight": 5, "max_queue": 64},
        "memory": {"loaded_mb": 25.0, "budget_mb": 512.0},
        "rules": {"acting": ["adapt[0]"], "prefer": "accuracy", "use": None},
        "lanes": [
            {
                "lane": "digits",
                "names": ["digits"],
                "current": NEAR,
                "rows_per_s": 120.0,
                "mix": {"upper": NEAR, "lower": FAR, "share": 0.75, "load": 0.6},
                "options": options,
            }
        ],
        "decisions": [
            {
                "time": iso_time(NOW - 60),
                "lane": "digits",
                "from": FAR,
                "to": NEAR,
                "reason": "rule",
                "why": "a rule prefers accuracy",
                "figures": {"rate": 118.2, "ratio": 1.02},
            }
        ],
    }


def feature(name: str, moved: float) -> dict[str, Any]:
    return {
        "name": name,
        "moved": moved,
        "edges": [0.0, 1.0, 3.0, 5.0, 8.0, 11.0, 16.0],
        "before": [0.3, 0.2, 0.2, 0.1, 0.1, 0.1],
        "after": [0.05, 0.05, 0.1, 0.2, 0.3, 0.3],
    }


def check(name: str, state: str, score: float, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": name.partition("-")[0],
        "phase": "armed",
        "state": state,
        "score": score,
        "threshold": 10000.0,
        "p_val": 0.004,
        "since": iso_time(NOW - 90),
        "why": "",
        "rows": 4000,
        "alarms": 0,
        "disabled": False,
        "inline": False,
        "acknowledged": None,
        "evidence": None,
        **more,
    }


def checks() -> dict[str, Any]:
    evidence = {
        "detector": "autoencoder",
        "since": "01KAPQ00000000000000000000",
        "since_at": iso_time(NOW - 130),
        "rows": [f"01KAPQ000000000000000000{i:02d}" for i in range(20)],
        "features": [feature("pixels[12]", 0.61), feature("pixels[20]", 0.44)],
        "figures": {"share_autoencoder": 0.97},
    }
    return {
        "state": "alarm",
        "checks": [
            check("drift", "alarm", 40200.0, evidence=evidence),
            check("balance", "ok", 12.0, p_val=0.41),
            check("anomaly", "warn", 0.04, threshold=None),
            check("integrity", "ok", 0.01, threshold=None, inline=True),
            check(
                "drift-ks",
                "off",
                0.0,
                phase="collecting",
                why="It has seen 1,210 of the 2,000 rows that it needs",
            ),
        ],
    }


def _explanation(row: str) -> dict[str, Any]:
    parts = (("pixels[2:4, 2:4]", 1.25), ("pixels[4:6, 2:4]", -0.5))
    changes = [0.0] * 16
    changes[5], changes[9] = 1.25, -0.5
    edges = (0, 2, 4, 6, 8)
    heat = Heat("pixels", 8, 8, edges, edges, tuple(changes))
    return Explanation(row, 2.5, 0.4, parts, (heat,)).to_json()


def _of_a_table(row: str) -> dict[str, Any]:
    parts = (("age", 3.0), ("height", -1.5), ("weight", 0.75))
    return Explanation(row, 4.0, 0.4, parts).to_json()


def history(last: float) -> dict[str, Any]:
    points = [
        {
            "at": iso_time(NOW - (99 - index) * 3),
            "rows": index * 40,
            "score": max(0.02, last ** (index / 99)) if last > 1 else last * index / 99,
            "p_val": 0.4,
            "state": "ok" if index < 95 else "alarm",
        }
        for index in range(100)
    ]
    return {"points": points}


def flagged() -> dict[str, Any]:
    """Return what the product's own code makes of three flagged images and a row of a table."""
    random = np.random.default_rng(4)
    pictures = np.zeros((3, 8, 8))
    for index in range(3):
        pictures[index, 1:7, 2 + index] = 16
    pictures += random.normal(0, 1, (3, 8, 8))
    kept = FlaggedRows({"pixels": ImageShape("flat", 8, 8, 1)})
    kept.note(_rows({"pixels": pictures.reshape(3, 64)}, NOW - 20), FLAGGED)
    kept.note(_rows({"colour": np.array(["black"])}, NOW), Verdicts(None, np.ones(1, bool)))
    explained = {identity(3, 2): _explanation, identity(1, 0): _of_a_table}
    return {
        "rows": [
            {
                **row.to_json(),
                "at": iso_time(row.at),
                "label": row.predicted,
                "explanation": explained[row.id](row.id) if row.id in explained else None,
            }
            for row in kept.after()
        ]
    }


def refused() -> dict[str, Any]:
    """Return what the product's own code makes of an image that integrity refused."""
    kept = FlaggedRows({"pixels": ImageShape("flat", 8, 8, 1)}, clock=lambda: NOW - 40)
    pixels = np.zeros((1, 64))
    pixels[0, 5] = 99
    finding = Finding("integrity", 0, "pixels", "[5]", "range", 99.0, "between 0 and 16")
    kept.judge({"pixels": pixels}, [finding])
    row = kept.after()[0]
    told = row.to_json() | {"at": iso_time(row.at), "label": None, "explanation": None}
    return {"rows": [told]}


FLAGGED = Verdicts(np.array([0.001, 0.002, 0.003]), np.ones(3, bool))


def identity(rows: int, index: int) -> str:
    """Return the id of a row of a request."""
    return f"01KAPQ00000000000000{rows:03d}{index:03d}"


def _rows(inputs: dict[str, Any], at: float) -> Observed:
    rows = len(next(iter(inputs.values())))
    answers = Answers({}, predicted=np.arange(rows) + 1 if rows > 1 else None)
    ids = [identity(rows, index) for index in range(rows)]
    return Observed(ids, inputs, answers, NEAR, np.full(rows, at))


def event(identity: int, text: str, kind: str = "check") -> dict[str, Any]:
    return {
        "id": identity,
        "time": iso_time(NOW),
        "kind": kind,
        "source": "drift",
        "text": text,
        "figures": {"score": 40200.0},
        "details": {},
    }


def newer(answer: dict[str, Any], after: str) -> dict[str, Any]:
    """Return *answer* without the points and rows that a page has which asks ``?after=``."""
    if "rows" in answer:
        ids = [row["id"] for row in answer["rows"]]
        return answer | {"rows": answer["rows"][: ids.index(after) if after in ids else None]}
    points = answer["points"]
    known = [str(point["at"]) for point in points]
    return answer | {"points": points[known.index(after) + 1 if after in known else 0 :]}


@dataclass
class World:
    """What the server answers.

    Attributes:
        routes: JSON by path; a path that is not here is 404.
        key: Needed by every route but the page's; "" for none.
        posted: Paths and bodies that came.
        down: Answer 503.
        asked: Paths that were asked for, with their queries.
    """

    url: str = ""
    key: str = ""
    down: bool = False
    routes: dict[str, Any] = field(default_factory=dict)
    posted: list[tuple[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    followers: list[queue.Queue[dict[str, Any] | None]] = field(default_factory=list)

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event to all who follow."""
        for follower in list(self.followers):
            follower.put(event)


def full_world() -> World:
    """Return a world in which everything that the page shows has happened."""
    routes: dict[str, Any] = {
        "stats": stats(),
        "plan": plan(),
        "checks": checks(),
        "events": {
            "events": [event(7, "Loaded.", "load"), event(8, "ok -> alarm")],
            "latest": 8,
        },
    }
    for name, last in (("drift", 40200.0), ("balance", 12.0), ("anomaly", 0.04)):
        routes[f"checks/{name}/history"] = history(last)
    routes["checks/anomaly/rows"] = flagged()
    routes["checks/integrity/rows"] = refused()
    return World(routes=routes)


class _Handler(BaseHTTPRequestHandler):
    world: World
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        self.world.asked.append(self.path.strip("/"))
        if path == "ui":
            return self._asset(PAGE)
        if path.startswith("ui/"):
            return self._asset(path.removeprefix("ui/"))
        if path == "events" and "event-stream" in self.headers.get("accept", ""):
            return self._guarded(self._stream)
        return self._guarded(lambda: self._json(path))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.world.posted.append((self.path.strip("/"), json.loads(body)))
        self._send(200, b"{}", "application/json")

    def _guarded(self, answer: Any) -> None:
        if self.world.key and self.headers.get("authorization") != f"Bearer {self.world.key}":
            detail = json.dumps({"detail": "A key must be sent, got none that is known."})
            return self._send(401, detail.encode(), "application/problem+json")
        if self.world.down:
            return self._send(503, b'{"detail": "The server is starting."}', "application/json")
        answer()
        return None

    def _json(self, path: str) -> None:
        if path not in self.world.routes:
            return self._send(404, b'{"detail": "unknown"}', "application/problem+json")
        after = dict(parse_qsl(self.path.partition("?")[2])).get("after")
        answer = self.world.routes[path] if after is None else newer(self.world.routes[path], after)
        return self._send(200, json.dumps(answer).encode(), "application/json")

    def _asset(self, name: str) -> None:
        found = ASSETS.get(name)
        if found is None:
            return self._send(404, b"", "text/plain")
        return self._send(200, found.body, found.content_type.decode())

    def _stream(self) -> None:
        follower: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.world.followers.append(follower)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self.wfile.write(b": nothing new\n\n")
            while (event := follower.get()) is not None:
                self.wfile.write(f"id: {event['id']}\ndata: {json.dumps(event)}\n\n".encode())
        except OSError:
            pass  # the page has gone
        finally:
            self.world.followers.remove(follower)

    def _send(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-security-policy", SECURITY.decode())
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def served(world: World) -> Iterator[World]:
    """Serve *world* until the block ends."""
    handler = type("Handler", (_Handler,), {"world": world})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    world.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield world
    finally:
        for follower in list(world.followers):
            follower.put(None)
        server.shutdown()
        server.server_close()
        thread.join()
