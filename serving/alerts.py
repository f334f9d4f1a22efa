"""Alerts of checks: to the log, by webhook and to MLflow as CloudEvents, on nobody's path.

Each alarm is told once, and within the check's `cooldown_s` no other. Who does not answer is asked
again, then given up with a line in the log; what waits is bounded.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from scanflow_serve.runtime.checks.configuration import Configured
from scanflow_serve.runtime.checks.lifecycle import Hush
from scanflow_serve.runtime.checks.watch import Watch
from scanflow_serve.runtime.events import Event, iso_time

log = logging.getLogger("scanflow_serve.checks")

TYPE = "scanflow.check.alarm"
MOST_WAITING = 100
TIMEOUT_S = 5.0
PAUSES_S = (1.0, 5.0, 25.0)  # before another try

Post = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One alert on its way.

    Attributes:
        to: Who is to take it, for people.
        send: Hands the event over; raises OSError or ValueError where that fails.
    """

    to: str
    send: Callable[[Mapping[str, Any]], None]
    event: Mapping[str, Any]


class Alerts:
    """Tells what the checks of one policy have to say; call it with each event.

    Args:
        policy: Its name: where alarms come from.
        find: Returns a check by its name.
        record: Hands an alarm's event to MLflow, or raises OSError; None: MLflow is not told.
        post: Sends a body to a URL, or raises OSError.
        pause: Waits so many seconds, and returns whether it is all over.
    """

    def __init__(
        self,
        policy: str,
        find: Callable[[str], Watch | None],
        *,
        record: Callable[[Mapping[str, Any]], None] | None = None,
        post: Post | None = None,
        pause: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._policy = policy
        self._find = find
        self._record = record
        self._post = post or post_event
        self._over = threading.Event()
        self._pause = pause or self._over.wait
        self._clock = clock
        self._hushes: dict[str, Hush] = {}
        self._waiting: queue.Queue[Job | None] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None
        self.lost = 0

    def __call__(self, event: Event) -> None:
        """Write *event* to the log; where it is an alarm that is news, tell who wants to know."""
        watch = self._find(event.source)
        alarm = event.details.get("state") == "alarm"
        grave = alarm or "disabled" in event.text or "caution" in event.details
        log.log(logging.WARNING if grave else logging.INFO, "%s", event.text)
        if alarm and watch is not None and (watch.configured.webhook or self._record):
            self._send(watch, event)

    def close(self) -> None:
        """Give up what is being tried again, and end."""
        self._over.set()
        if self._thread is not None:
            self._put(None)
            self._thread.join(timeout=TIMEOUT_S + 1)

    def _send(self, watch: Watch, event: Event) -> None:
        check: Configured = watch.configured
        hush = self._hushes.setdefault(check.name, Hush(check.cooldown_s))
        if not hush.news(watch.life, self._clock()):
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="alerts", daemon=True)
            self._thread.start()
        told = cloud_event(self._policy, event)
        if (url := check.webhook) is not None:
            self._put(Job(url, lambda each: self._post(url, json.dumps(each).encode()), told))
        if self._record is not None:
            self._put(Job("MLflow", self._record, told))

    def _put(self, job: Job | None) -> None:
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            self.lost += 1
            log.warning("an alert was lost: %d wait to be sent", MOST_WAITING)

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            for wait_s in (*PAUSES_S, None):
                try:
                    job.send(job.event)
                    break
                except (OSError, ValueError) as error:
                    if wait_s is None or self._pause(wait_s):
                        self.lost += 1
                        log.warning("an alert was lost: %s does not take it: %s", job.to, error)
                        break


def cloud_event(policy: str, event: Event) -> Mapping[str, Any]:
    """Return *event* as a CloudEvent in structured mode.

    Source:
        https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    """
    return {
        "specversion": "1.0",
        "id": uuid.uuid4().hex,
        "type": TYPE,
        "source": f"/scanflow/{policy}",
        "subject": event.source,
        "time": iso_time(event.time),
        "datacontenttype": "application/json",
        "data": {
            "check": event.source,
            "text": event.text,
            **dict(event.figures),
            **dict(event.details),
        },
    }


def post_event(url: str, body: bytes) -> None:
    """Post a CloudEvent.

    Raises:
        OSError: Nobody takes it within `TIMEOUT_S`, or the status is no success.
        ValueError: The URL can't be read.
    """
    headers = {"Content-Type": "application/cloudevents+json"}
    request = urllib.request.Request(url, data=body, headers=headers, method="POST")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        reply.read()
