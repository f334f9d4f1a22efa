"""The host of checks: one thread that shows live rows to every check, beside the request path.

It finds what a policy configures, gives each check its reference, keeps one budget of false alarms
for the model (all checks together), latches alarms, keeps state by checkpoint, and isolates what
fails. It never adapts a reference by itself: `acknowledge` and `rebase` are asked for by people.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf, log
from pathlib import Path
from typing import Any

from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.runtime.checks import configuration, registry
from scanflow_serve.runtime.checks.batches import batches
from scanflow_serve.runtime.checks.configuration import Configured
from scanflow_serve.runtime.checks.flagged import FlaggedRows, image_inputs
from scanflow_serve.runtime.checks.isolation import LIMIT_S, Bench
from scanflow_serve.runtime.checks.lifecycle import Life, State, worst
from scanflow_serve.runtime.checks.members import Stake
from scanflow_serve.runtime.checks.portfolio import Portfolio
from scanflow_serve.runtime.checks.protocol import Check
from scanflow_serve.runtime.checks.references import SEED, SHARED, References, Subject
from scanflow_serve.runtime.checks.rows import Observed, Setting
from scanflow_serve.runtime.checks.scored import ScoreMember
from scanflow_serve.runtime.checks.statistics.portfolio import standing
from scanflow_serve.runtime.checks.statistics.splits import (
    DEFAULT_RUN_LENGTH,
    honoured_run_length,
)
from scanflow_serve.runtime.checks.storage import FOLDER, Storage
from scanflow_serve.runtime.checks.tap import Tap
from scanflow_serve.runtime.checks.watch import Notify, Watch
from scanflow_serve.runtime.events import Event

CHECKPOINT_REQUESTS = 100  # what a kill -9 may lose
COST_SHARE = 0.05  # of one core that checkpoints may take; then they come less often
IDLE_S = 1.0
INLINE_KIND = "integrity"  # works before inference, see `serving.http.guard`


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
        self._inline: dict[str, Check] = dict(inline or {})
        self._notify = notify
        self._bench = Bench("checks")
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._requests = 0  # since the last checkpoint
        self._saved, self._save_s = -1e9, 0.0
        self.rows = 0
        self.watches = self._watches(Storage(state / FOLDER), limit_s)
        bets = [watch for watch in self.watches if watch.bets]
        for watch in bets:
            watch.weight = 1 / len(bets)
        self.run_length = self._asked() or DEFAULT_RUN_LENGTH
        self.standing = standing({}, {}, self.run_length)
        self._variants: set[str] = set()  # that checks on answers are calibrated for

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
            for watch in self.watches:
                if watch.inline:
                    watch.arm()
                elif not watch.resume():
                    self._fit(watch)
            self._fit_answers()

    def process(self, rows: Sequence[Observed], requests: int) -> None:
        """Show live rows to every check, and let their lives go on."""
        with self._lock:
            for each in rows:
                self.rows += each.rows
                self._learn(each)
                for watch in self.watches:
                    if not watch.inline:
                        watch.observe(each)
                self._read(each.rows)
            if not rows:
                self._read(0)  # refused requests never come here, but inline checks saw them
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
            self._stand()
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
            watch.rebase(who, reason, self._made(watch.configured))
            self.references.rebase(watch.name)
            self._stand()
            return watch

    def checkpoint(self, *, sync: bool = False, force: bool = False) -> None:
        """Keep all states, unless that was done so recently that it would cost too much."""
        now = time.monotonic()
        if not force and now - self._saved < self._save_s / self._cost_share:
            return
        for watch in self.watches:
            watch.checkpoint(sync=sync)
        self.references.checkpoint()
        self._requests = 0
        self._saved = time.monotonic()
        self._save_s = self._saved - now

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

    def _configured(self) -> list[Configured]:
        """Return the checks of this run."""
        policy = self.subject.policy_file.policy
        return [
            check
            for check in configuration.configured(policy)
            if check.workflow in (None, self.subject.workflow, policy.name)
            and (check.kind != INLINE_KIND or check.name in self._inline)
        ]

    def _watches(self, storage: Storage, limit_s: float) -> tuple[Watch, ...]:
        subject = self.subject
        checks = self._configured()
        digests = {
            check.name: configuration.digest(check, subject.policy_file, subject.signature)
            for check in checks
        }
        self.references = References(subject, checks, storage, digests)
        images = image_inputs(subject.policy_file.policy, subject.signature)
        return tuple(
            Watch(
                configured=check,
                check=self._made(check),
                storage=storage,
                notify=self._notify,
                digest=digests[check.name],
                bench=self._bench,
                clock=self.clock,
                limit_s=limit_s,
                life=Life(since=self.clock()),
                inline=check.name in self._inline,
                flagged=FlaggedRows(images),
            )
            for check in checks
        )

    def _made(self, check: Configured) -> Check:
        if check.name in self._inline:
            return self._inline[check.name]
        names = {spec.name for spec in self.subject.signature.inputs}
        setting = Setting(
            signature=self.subject.signature,
            classes=self.subject.classes,
            inputs=tuple(name for name in check.inputs if name in names),
            seed=SEED,
        )
        made = registry.make(check.kind, setting, check.settings, check.where)
        if isinstance(made, Check):
            return made
        member = ScoreMember(check.kind, made, seed=SEED)
        return Portfolio(setting, [Stake(member, 1.0)], "drift")

    def _fit(self, watch: Watch) -> None:
        """Give *watch* its reference, if there is one by now; else it collects."""
        try:
            needs = watch.check.needs
            apart = "inputs" in needs and hasattr(watch.check, "fit_answers")
            answers = "outputs" in needs and not apart
            find = self.references.answers if answers else self.references.inputs
            reference = find(watch.name)
        except ScanflowError as error:
            watch.disable(str(error))
            return
        if reference is None:
            watch.life = watch.life.collecting(self.references.why(watch.name))
        else:
            watch.fit(reference)

    def _fit_answers(self) -> None:
        """Calibrate checks on answers for every variant that can answer now."""
        self._variants = set(self.subject.variants())
        for watch in self.watches:
            if "outputs" not in watch.check.needs or not watch.armed:
                continue
            try:
                reference = self.references.answers(watch.name)
            except ScanflowError as error:
                watch.disable(str(error))
                continue
            if reference is not None:
                watch.fit_answers(reference)
        self._budget()

    def _learn(self, rows: Observed) -> None:
        """Collect live rows where they are wanted; calibrate for a variant that is new."""
        complete = self.references.observe(rows)
        for watch in self.watches:
            waits = watch.life.phase == "collecting" and not watch.life.disabled
            if watch.name in complete or (waits and SHARED in complete):
                self._fit(watch)
            elif waits:
                watch.life = watch.life.collecting(self.references.why(watch.name))
        if complete or rows.variant in set(self.subject.variants()) - self._variants:
            self._fit_answers()

    def _read(self, rows: int) -> None:
        for watch in self.watches:
            if watch.armed:
                watch.read(self.run_length, rows)
        self._stand()
        alarming = [watch for watch in self.watches if watch.life.state == "alarm"]
        if self.standing.alarm and not alarming:
            # All together have reached what none has alone: the one that says most is the cause.
            cause = self._named(next(iter(self.standing.shares)))
            cause.step(1.0, 0)

    def _stand(self) -> None:
        """Add up what the checks have won."""
        bets = [
            watch
            for watch in self.watches
            if watch.armed and watch.weight and watch.reading and watch.reading.wealth is not None
        ]
        log_wealth = {
            watch.name: log(watch.score / watch.weight) if watch.score > 0 else -inf
            for watch in bets
        }
        weights = {watch.name: watch.weight for watch in bets}
        self.standing = standing(log_wealth, weights, self.run_length)

    def _budget(self) -> None:
        """Settle the run length that the smallest calibration set honours."""
        bets = [watch for watch in self.watches if watch.bets]
        sizes = [getattr(watch.check, "calibration_rows", 0) for watch in bets]
        least = min((size for size in sizes if size), default=0)
        if not least:
            return
        strict = all(watch.configured.settings.get("strict") for watch in bets)
        asked = self._asked()
        try:
            honoured = honoured_run_length(asked, least, strict=strict)
        except ValueError as error:  # only live warm-up gets here; files were held to it at load
            self._tell(f"{error}")
            honoured = honoured_run_length(None, least)
        if honoured.rows != self.run_length and honoured.warning:
            self._tell(honoured.warning)
        self.run_length = honoured.rows

    def _asked(self) -> int | None:
        """Return the smallest run length that a check asks for, None if none does."""
        asked = [watch.configured.run_length for watch in self.watches]
        return min((each for each in asked if each is not None), default=None)

    def _named(self, name: str) -> Watch:
        watch = self.watch(name)
        if watch is None:
            raise KeyError(name)
        return watch

    def _tell(self, text: str) -> None:
        self._notify(Event("check", "checks", text))
