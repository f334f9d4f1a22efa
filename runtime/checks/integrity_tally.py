"""What integrity has found so far: counts, an alarm that can be believed, notices now and then."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from scanflow_serve.runtime.checks.inspection import (
    NEVER_REFUSED,
    NOVEL,
    Finding,
    Inspection,
    Rule,
)
from scanflow_serve.runtime.checks.protocol import Evidence, Reading
from scanflow_serve.runtime.tensors import Array

RUN_LENGTH = 10_000  # clean rows on average before faults that clean rows have too raise an alarm
LATEST = 20  # findings kept for people
SILENCE_S = 60.0  # between two notices of the same fault
MOST_KINDS = 1000  # faults that are told apart: places times rules
_RULES: tuple[Rule, ...] = (
    *("dtype", "format", "null", "infinite", "range", "level", "shape", "missing"),
    *("unknown", "order", "constant", "duplicate", "brightness", "contrast", "aspect"),
)


class Tally:
    """Counts of one check, since it was armed or last acknowledged.

    Clean rows break an inferred schema now and then: at most in the share `clean_share`. A
    Shiryaev-Roberts sum bets that faults come ten times as often; without a change it needs
    `RUN_LENGTH` rows on average to reach that figure. A category or dtype that never was raises
    the alarm at once.

    Attributes:
        latest: The latest findings, oldest first.

    Source:
        Shin, Ramdas & Rinaldo (2023), "E-detectors", NEJSDS.
    """

    def __init__(
        self,
        notify: Callable[[Finding], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.latest: deque[Finding] = deque(maxlen=LATEST)
        self._notify = notify
        self._clock = clock
        self._told: dict[tuple[Rule, str, str], float] = {}
        self._places: Counter[str] = Counter()
        self._share = 0.001
        self.clear()

    @property
    def clean_share(self) -> float:
        """Return the share of clean rows that break a rule, at most."""
        return self._share

    @clean_share.setter
    def clean_share(self, share: float) -> None:
        self._share = min(max(share, 0.001), 0.09)  # a schema by hand promises nothing: 0.1 %

    def clear(self) -> None:
        """Forget all counts."""
        self.rows = 0
        self.flagged = 0
        self.counts: Counter[Rule] = Counter()
        self.wealth = 0.0
        self.novel = 0
        self._places.clear()
        self.latest.clear()

    def clean(self, rows: int) -> None:
        """Count rows without any fault."""
        self.rows += rows
        self._bet(rows, 0)

    def count(self, found: Inspection, rows: int) -> None:
        """Count a request in which something was found."""
        self.rows += rows
        self.flagged += found.flagged
        faulty = {each.row for each in found.findings if each.rule not in NEVER_REFUSED}
        self._bet(rows - len(faulty), len(faulty))
        for finding in found.findings:
            self.counts[finding.rule] += 1
            self.novel += finding.rule in NOVEL
            self.latest.append(finding)
            place = f"{finding.input}{finding.at}"
            if place in self._places or len(self._places) < MOST_KINDS:
                self._places[place] += 1
            self._tell(finding)

    def _bet(self, clean: int, faulty: int) -> None:
        rate = 10 * self._share
        shrink = (1 - rate) / (1 - self._share)
        # The sum over rows without a fault, R <- (R + 1) * shrink, in one step.
        power = shrink**clean
        self.wealth = power * self.wealth + shrink * (1 - power) / (1 - shrink)
        for _ in range(faulty):
            self.wealth = min((self.wealth + 1) * rate / self._share, 1e300)

    def _tell(self, finding: Finding) -> None:
        if self._notify is None:
            return
        key = (finding.rule, finding.input, finding.at)
        now = self._clock()
        if now - self._told.get(key, -SILENCE_S) < SILENCE_S:
            return
        if len(self._told) >= MOST_KINDS:
            self._told.clear()
        self._told[key] = now
        self._notify(finding)

    def reading(self) -> Reading:
        """Return the share of flagged rows, and whether there is cause for alarm."""
        share = self.flagged / self.rows if self.rows else 0.0
        by_wealth = self.wealth >= RUN_LENGTH
        why = ""
        if self.novel:
            kinds = [rule for rule in _RULES if self.counts[rule] and rule in NOVEL]
            why = f"Values that normal times do not have: {', '.join(kinds)}."
        elif by_wealth:
            why = (
                f"{self.flagged} of {self.rows} rows break a rule; clean rows do in at most"
                f" {self._share:.2%}."
            )
        return Reading(
            statistic=share,
            alarm=bool(self.novel) or by_wealth,
            why=why,
            evidence=self._evidence() if self.counts else None,
        )

    def _evidence(self) -> Evidence:
        most = self._places.most_common(10)
        return Evidence(
            detector=self.counts.most_common(1)[0][0],
            features=tuple(
                {"name": name, "moved": count / max(1, self.rows)} for name, count in most
            ),
            figures={rule: float(count) for rule, count in self.counts.items()},
        )

    def state(self) -> Mapping[str, Array]:
        """Return the counts, as arrays."""
        return {
            "counted": np.array([self.rows, self.flagged, self.novel], np.int64),
            "rules": np.array([self.counts[rule] for rule in _RULES], np.int64),
            "wealth": np.array([self.wealth]),
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned."""
        self.clear()
        self.merge([state])

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Add other replicas' counts; their rows are others, so their sums add up."""
        for other in others:
            self.rows += int(other["counted"][0])
            self.flagged += int(other["counted"][1])
            self.novel += int(other["counted"][2])
            self.wealth += float(other["wealth"][0])
            for rule, count in zip(_RULES, other["rules"].tolist(), strict=True):
                if count:
                    self.counts[rule] += count
