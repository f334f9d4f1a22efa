"""The model's budget of false alarms: what all its checks have won together, against one bound.

Each check bets with a share of the budget; their sum alarms at the run length, whatever they have
in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, log

from scanflow_serve.runtime.checks.statistics.portfolio import standing
from scanflow_serve.runtime.checks.statistics.splits import (
    DEFAULT_RUN_LENGTH,
    honoured_run_length,
)
from scanflow_serve.runtime.checks.watch import Watch


class Budget:
    """One run length for the checks of a model.

    Args:
        watches: Those that bet get equal shares.
        tell: Told why the run length is not the one that was asked for.

    Attributes:
        run_length: Rows between false alarms of the whole model.
        standing: What the checks have won together.
    """

    def __init__(self, watches: Sequence[Watch], tell: Callable[[str], None]) -> None:
        self._watches = watches
        self._tell = tell
        betting = self._betting()
        for watch in betting:
            watch.weight = 1 / len(betting)
        self.run_length = self._asked() or DEFAULT_RUN_LENGTH
        self.standing = standing({}, {}, self.run_length)

    def settle(self) -> None:
        """Take the run length that the smallest calibration set honours."""
        betting = self._betting()
        sizes = [getattr(watch.check, "calibration_rows", 0) for watch in betting]
        least = min((size for size in sizes if size), default=0)
        if not least:
            return
        strict = all(watch.configured.settings.get("strict") for watch in betting)
        try:
            honoured = honoured_run_length(self._asked(), least, strict=strict)
        except ValueError as error:  # only live warm-up gets here; files were held to it at load
            self._tell(f"{error}")
            honoured = honoured_run_length(None, least)
        if honoured.rows != self.run_length and honoured.warning:
            self._tell(honoured.warning)
        self.run_length = honoured.rows

    def read(self, rows: int) -> None:
        """Take every check's reading after *rows* more rows; their sum alarms where none does."""
        for watch in self._watches:
            if watch.armed:
                watch.read(self.run_length, rows)
        self.stand()
        alarming = any(watch.life.state == "alarm" for watch in self._watches)
        if self.standing.alarm and not alarming:
            # All together have reached what none has alone: the one that says most is the cause.
            cause = next(iter(self.standing.shares))
            next(watch for watch in self._watches if watch.name == cause).step(1.0, 0)

    def stand(self) -> None:
        """Add up what the checks have won."""
        bets = [
            watch
            for watch in self._watches
            if watch.armed and watch.weight and watch.reading and watch.reading.wealth is not None
        ]
        log_wealth = {
            watch.name: log(watch.score / watch.weight) if watch.score > 0 else -inf
            for watch in bets
        }
        weights = {watch.name: watch.weight for watch in bets}
        self.standing = standing(log_wealth, weights, self.run_length)

    def _betting(self) -> list[Watch]:
        return [watch for watch in self._watches if watch.bets]

    def _asked(self) -> int | None:
        """Return the smallest run length that a check asks for, None if none does."""
        asked = [watch.configured.run_length for watch in self._watches]
        return min((each for each in asked if each is not None), default=None)
