"""Rotation: which variants are trusted to answer, by how their calls end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from scanflow_serve.runtime.scheduler.health import Health
from scanflow_serve.runtime.scheduler.jobs import Batch, Reason
from scanflow_serve.runtime.scheduler.retries import ALONE
from scanflow_serve.runtime.scheduler.tuning import Tuning

Changed: TypeAlias = Callable[[Reason, float, str, Mapping[str, float]], None]
SEEN_S = 1.0  # s since a variant's last call, in which it tells how the host does


class Rotation:
    """The health of every variant that was ever carried.

    A variant is taken out when a call of it fails that goes well on another option, or when
    `Tuning.failures` calls in a row fail. After a pause one call tries it again; each failed
    trial doubles the pause.

    Args:
        changed: Called with reason, time, sentence and figures, when a variant goes or returns.

    Source:
        Nygard (2007), Release It!: circuit breaker.
    """

    def __init__(self, tuning: Tuning, changed: Changed) -> None:
        self.health: dict[str, Health] = {}
        self._tuning = tuning
        self._changed = changed

    def know(self, variant: str) -> None:
        """Keep the health of *variant* from now on; what is known of it already is kept."""
        if variant not in self.health:
            self.health[variant] = Health()

    def succeeded(self, batch: Batch, now: float, took_ms: float) -> None:
        """Count a call that went well, after *took_ms*."""
        option = batch.option
        health = self.health[option.variant]
        curve, rows = option.curve, batch.rows
        health.spread(took_ms, curve.p95_ms(rows) * batch.pace)
        health.observe(took_ms, curve.p50_ms(rows) * batch.pace, now)
        health.failures = 0
        if batch.trial and not health.closed:
            health.close()
            self._changed("recovery", now, f"{option.variant} answers again", {})
        if batch.failed is not None:  # the same rows went well elsewhere: it was the variant
            self._take_out(batch.failed.variant, now, batch.why)

    def failed(self, batch: Batch, now: float, why: str, *, others: bool) -> None:
        """Count a call that failed.

        Args:
            others: Whether something else could answer instead.
        """
        variant = batch.option.variant
        health = self.health[variant]
        if batch.trial:
            health.trying = False
        if batch.attempt == ALONE:  # these rows are suspects themselves
            return
        health.failures += 1
        if health.closed:
            if health.failures >= self._tuning.failures and others:
                self._take_out(variant, now, why)
        elif batch.trial and now >= health.open_until:
            self._pause(variant, now, why)

    def suspend(self, variant: str, now: float, why: str, earlier: int) -> None:
        """Take *variant* out as if it had failed; see `Scheduler.suspend`."""
        self.know(variant)
        health = self.health[variant]
        health.opened = max(health.opened, earlier)
        health.failures += 1
        self._pause(variant, now, why)

    def tick(self, now: float) -> None:
        """Let the ratios of variants that do not run follow the host's."""
        seen = [health.ratio for health in self.health.values() if now - health.seen < SEEN_S]
        host = sum(seen) / len(seen) if seen else None
        for health in self.health.values():
            health.drift(host, now)

    def _take_out(self, variant: str, now: float, why: str) -> None:
        if self.health[variant].closed:  # calls that ran beside a failed one tell nothing new
            self._pause(variant, now, why)

    def _pause(self, variant: str, now: float, why: str) -> None:
        health = self.health[variant]
        pause_s = health.open(now, self._tuning.backoff_s, self._tuning.longest_backoff_s)
        text = f"{variant} failed and pauses for {pause_s:g} s: {why}"
        figures = {"failures": float(health.failures), "pause_s": pause_s}
        self._changed("failure", now, text, figures)
