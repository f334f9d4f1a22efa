"""The host of checks: one thread that shows live rows to every check, beside the request path.

It shows rows, latches alarms, keeps state by checkpoint, and isolates what fails. How checks are
made is `assembly`'s, how they learn `learning`'s, when they alarm together `budget`'s. It never
adapts a reference by itself: `acknowledge` and `rebase` are asked for by people.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.runtime.checks.assembly import Assembly
from scanflow_serve.runtime.checks.batches import answers, batches
from scanflow_serve.runtime.checks.budget import Budget
from scanflow_serve.runtime.checks.isolation import LIMIT_S, Bench
from scanflow_serve.runtime.checks.learning import Learning
from scanflow_serve.runtime.checks.lifecycle import State, worst
from scanflow_serve.runtime.checks.protocol import Check
from scanflow_serve.runtime.checks.references import Subject
from scanflow_serve.runtime.checks.rows import Observed
from scanflow_serve.runtime.checks.statistics.portfolio import Standing
from scanflow_serve.runtime.checks.storage import FOLDER, Storage
from scanflow_serve.runtime.checks.tap import Tap
from scanflow_serve.runtime.checks.watch import Notify, Watch
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.requests import Response
from scanflow_serve.runtime.tensors import Array, Tensors

CHECKPOINT_REQUESTS = 100  # what a kill -9 may lose
COST_SHARE = 0.02  # of one core that checkpoints may take; then they come less often
DISK_WEIGHT = 0.1  # of time that waits for the disk: it is taken from checks, not from requests
IDLE_S = 1.0


class Host:
    """All checks of one policy.

    Args:
        state: The policy's state folder.
        notify: Told of every change of state, warning and failure.
        inline: Checks of the request path, by name, made and armed by their caller: they look at
            rows before inference, and the host tells what they say.
        closing: Called when the host has ended.
        clock: Unix time, in s.
        limit_s: Of one call to a check.
        cost_share: Of one core that checkpoints may take; 1: one every hundred requests, always.

    Raises:
        UsageError: A check is not installed, or refuses its settings.
        MissingExtraError: A check needs a package that is not installed.
    """

    def __init__(
        self,
        subject: Subject,
        state: Path,
        notify: Notify,
        *,
        clock: Callable[[], float] = time.time,
        limit_s: float = LIMIT_S,
        cost_share: float = COST_SHARE,
        tap: Tap | None = None,
        inline: Mapping[str, Check] | None = None,
        closing: Callable[[], None] | None = None,
    ) -> None:
        self.subject = subject
        self.tap = tap or Tap()
        self.clock = clock
        self._cost_share = cost_share
        self._closing = closing
        self._notify = notify
        self._bench = Bench("checks")
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._requests = 0  # since the last checkpoint
        self._saved, self._save_s = -1e9, 0.0
        self.rows = 0
        self._assembly = Assembly(
            subject,
            Storage(state / FOLDER),
            notify,
            self._bench,
            clock,
            limit_s,
            dict(inline or {}),
        )
        self.watches, self._references = self._assembly.watched()
        self._replying = [watch for watch in self.watches if watch.configured.in_reply]
        self._budget = Budget(self.watches, self._tell)
        self._learning = Learning(
            self.watches, self._references, subject.variants, self._budget.settle
        )

    @property
    def run_length(self) -> int:
        """Return the rows between false alarms of the whole model."""
        return self._budget.run_length

    @property
    def standing(self) -> Standing:
        """Return what all checks have won together."""
        return self._budget.standing

    @property
    def state(self) -> State:
        """Return the gravest state of all checks."""
        return worst(tuple(watch.life.state for watch in self.watches))

    def watch(self, name: str) -> Watch | None:
        """Return the check *name*, None if there is none."""
        return next((watch for watch in self.watches if watch.name == name), None)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return what conditions see of each check: ``checks["NAME"].state`` and its like."""
        return {
            watch.name: {
                "state": watch.life.state,
                "phase": watch.life.phase,
                "score": watch.score,
                "p_val": 1.0 if watch.reading is None else watch.reading.p_val or 1.0,
            }
            for watch in self.watches
        }

    def states(self) -> dict[str, str]:
        """Return the state of each check as it was last seen: a reply waits for none."""
        return {watch.name: watch.life.state for watch in self.watches}

    def p_values(self, answered: Response, inputs: Tensors, session: str = "") -> dict[str, Array]:
        """Return the p-values of a request's rows, by the checks that replies are to tell of."""
        if not self._replying:
            return {}
        rows = Observed(
            ids=answered.prediction_ids,
            inputs=inputs,
            answers=answers(answered.outputs, answered.output, answered.kind),
            variant=answered.variant,
            at=np.full(len(answered.prediction_ids), self.clock()),
            session=session,
        )
        judged = {watch.name: watch.p_values(rows) for watch in self._replying}
        return {name: p for name, p in judged.items() if p is not None}

    def start(self) -> None:
        """Take up what was kept, fit what was not, and watch, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="checks-host", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look at what has come, keep all states, and end."""
        self._stop.set()
        self.tap.close()
        if self._thread is not None:
            self._thread.join(timeout=30)
            self._thread = None
        self._bench.close()
        if self._closing is not None:
            self._closing()

    def arm(self) -> None:
        """Take up kept states; fit what has a reference. Others collect live rows."""
        with self._lock:
            self._learning.begin()

    def begin_merged(self) -> None:
        """Settle the budget and read all checks, once replicas' states were taken up."""
        with self._lock:
            self.rows = max((watch.rows for watch in self.watches), default=0)
            self._budget.settle()
            self._budget.read(0)

    def process(self, rows: Sequence[Observed], requests: int) -> None:
        """Show live rows to every check, and let their lives go on."""
        with self._lock:
            for each in rows:
                self.rows += each.rows
                self._learning.observe(each)
                for watch in self.watches:
                    if not watch.inline:
                        watch.observe(each)
                self._budget.read(each.rows)
            if not rows:
                self._budget.read(0)  # refused requests never come here, but inline checks saw them
            self._requests += requests
            if self._requests >= CHECKPOINT_REQUESTS:
                self.checkpoint()

    def acknowledge(self, name: str, who: str, reason: str) -> Watch:
        """Note that a person has seen the alarm of check *name*.

        Raises:
            KeyError: There is no such check.
            ValueError: It is not in alarm.
        """
        with self._lock:
            watch = self._named(name)
            watch.acknowledge(who, reason)
            self._budget.stand()
            return watch

    def rebase(self, name: str, who: str, reason: str) -> Watch:
        """Let check *name* learn normal times anew from live traffic, as a person has asked.

        Raises:
            KeyError: There is no such check.
            ValueError: It works by a schema, which people correct.
        """
        with self._lock:
            watch = self._named(name)
            if watch.inline:
                raise ValueError(
                    f"type must not be {watch.configured.kind}, got that. Correct its schema, "
                    "which lies in the state folder, and start anew."
                )
            watch.rebase(who, reason, self._assembly.make(watch.configured))
            self._references.rebase(watch.name)
            self._budget.stand()
            return watch

    def checkpoint(self, *, sync: bool = False, force: bool = False) -> None:
        """Keep all states, unless that was done so recently that it would cost too much."""
        now = time.monotonic()
        if not force and now - self._saved < self._save_s / self._cost_share:
            return
        busy = time.thread_time()
        for watch in self.watches:
            watch.checkpoint(sync=sync)
        self._references.checkpoint()
        self._requests = 0
        self._saved = time.monotonic()
        self._save_s = max(time.thread_time() - busy, DISK_WEIGHT * (self._saved - now))

    def _run(self) -> None:
        try:
            self.arm()
            while not self._stop.is_set():
                tapped = self.tap.drain(IDLE_S)
                self.process(batches(tapped), len(tapped))
            rest = self.tap.drain(0)
            self.process(batches(rest), len(rest))
            self.checkpoint(sync=True, force=True)
        except Exception as error:  # ours, not a check's: tell it, and let predictions go on
            self._tell(f"checks have stopped: {type(error).__name__}: {error}")
            for watch in self.watches:
                watch.life = watch.life.disable("the host of checks failed", self.clock())
            raise

    def _named(self, name: str) -> Watch:
        watch = self.watch(name)
        if watch is None:
            raise KeyError(name)
        return watch

    def _tell(self, text: str) -> None:
        self._notify(Event("check", "checks", text))
