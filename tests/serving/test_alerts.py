from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from checks_worlds import World, inverted, stream
from registry_worlds import Mlflow, mlflow_server

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.events import Event
from scanflow_serve.serving.alarm_records import AlarmRecords
from scanflow_serve.serving.alerts import PAUSES_S, Alerts, post_event

DRIFT = (
    "  - drift: {method: confidence, reference: data/digits-train.npz, members: [],"
    " webhook: 'URL', cooldown_s: 3600}"
)


class Sent:
    """What a webhook got; refuses as often as it is told to."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.bodies: list[dict[str, Any]] = []
        self.tries = 0
        self.came = threading.Event()

    def __call__(self, url: str, body: bytes) -> None:
        self.tries += 1
        if self.tries <= self.refusals:
            raise OSError("refused")
        self.bodies.append({"url": url, **json.loads(body)})
        self.came.set()


def alarmed(state: Path, sent: Any) -> tuple[World, Host, Alerts]:
    world = World(DRIFT.replace("URL", "http://pager.example/hook"), state)
    hosts: list[Host] = []
    alerts = Alerts(
        "digits",
        lambda name: hosts[0].watch(name) if hosts else None,
        post=sent,
        pause=lambda seconds: False,
        clock=world.clock,
    )
    host = world.host()
    hosts.append(host)
    for watch in host.watches:
        watch.notify = alerts
    world.feed(host, inverted(stream(1, 60)))
    return world, host, alerts


def test_alarm_is_posted_as_a_cloud_event(tmp_path: Path) -> None:
    sent = Sent()
    _, _, alerts = alarmed(tmp_path, sent)
    assert sent.came.wait(30)
    alerts.close()
    (event,) = sent.bodies
    assert event["url"] == "http://pager.example/hook"
    assert (event["specversion"], event["type"]) == ("1.0", "scanflow.check.alarm")
    assert (event["source"], event["subject"]) == ("/scanflow/digits", "drift")
    assert event["data"]["detector"] == "confidence"


@pytest.mark.slow
def test_alarm_becomes_a_run_in_mlflow(tmp_path: Path) -> None:
    """A real server; a child process talks to it, and none of mlflow comes into this one."""
    with mlflow_server(tmp_path) as mlflow:
        records = AlarmRecords(mlflow.uri, "line-3", "digits")
        alerts = Alerts("digits", lambda name: watch, record=records)
        watch = World(DRIFT.replace("webhook: 'URL', ", ""), tmp_path).host().watches[0]
        watch.life = watch.life.armed(0.0).read(1.0, 1, 0.0)
        figures = {"score": 12000.0, "rows": 60.0}
        said = {"state": "alarm", "detector": "confidence", "since": "01J"}
        alerts(Event("check", "drift", "check drift: ok -> alarm", figures, said))
        found = until(lambda: runs(mlflow, "line-3"))
        alerts.close()
    assert alerts.lost == 0
    (run,) = found
    tags = {each["key"]: each["value"] for each in run["data"]["tags"]}
    assert (tags["scanflow.policy"], tags["scanflow.check"]) == ("digits", "drift")
    assert tags["scanflow.detector"] == "confidence"
    assert json.loads(tags["scanflow.event"])["type"] == "scanflow.check.alarm"
    assert {each["key"]: each["value"] for each in run["data"]["metrics"]} == figures
    assert run["info"]["status"] == "FINISHED"


def runs(mlflow: Mlflow, experiment: str) -> list[Any]:
    """Return the finished runs of *experiment*, none while it is not there."""
    try:
        found = mlflow.call(f"experiments/get-by-name?experiment_name={experiment}")
    except HTTPError:
        return []
    ids = {"experiment_ids": [found["experiment"]["experiment_id"]]}
    all_of = mlflow.call("runs/search", ids).get("runs", [])
    return [run for run in all_of if run["info"]["status"] == "FINISHED"]


def until(found: Callable[[], list[Any]]) -> list[Any]:
    end = time.monotonic() + 120
    while not (known := found()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return known


@pytest.mark.slow
def test_tracking_server_that_is_away_costs_the_alarm_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9 .*"):
        AlarmRecords("http://127.0.0.1:9", "line-3", "digits")(
            {"type": "t", "subject": "drift", "data": {}}
        )


def test_webhook_that_refuses_is_tried_again(tmp_path: Path) -> None:
    sent = Sent(refusals=len(PAUSES_S))
    _, _, alerts = alarmed(tmp_path, sent)
    assert sent.came.wait(30)
    alerts.close()
    assert len(sent.bodies) == 1
    assert alerts.lost == 0


def test_second_alarm_within_the_pause_is_not_posted(tmp_path: Path) -> None:
    sent = Sent()
    world, host, alerts = alarmed(tmp_path, sent)
    assert sent.came.wait(30)
    host.acknowledge("drift", "ann", "seen")
    world.feed(host, inverted(stream(2, 60)))
    alerts.close()
    assert host.watches[0].life.alarms == 2
    assert len(sent.bodies) == 1


def test_event_really_goes_over_http() -> None:
    got: list[tuple[str, bytes]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.headers["Content-Type"], self.rfile.read(2)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        post_event(f"http://127.0.0.1:{server.server_port}/hook", b"{}")
        thread.join(30)
    assert got == [("application/cloudevents+json", b"{}")]


def test_webhook_must_be_a_url(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"checks\[0\]\.drift\.webhook must be an http\(s\) URL"):
        World(DRIFT.replace("URL", "pager"), tmp_path).host()
