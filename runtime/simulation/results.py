"""What a run comes to: the figures of its table, and of its plot over time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scanflow_serve.runtime.scheduler.jobs import Option
from scanflow_serve.runtime.simulation.world import Log, Outcome


@dataclass(frozen=True, slots=True)
class Result:
    """Figures of one run; shares are of all requests.

    Attributes:
        strategy: What decided.
        effective_accuracy: Sum of the accuracy of answers inside their deadline, over all
            requests; where no option's accuracy is known, each such answer counts as right.
        refused: Share that was refused on arrival.
        dropped: Share that was refused after it had been admitted.
        late: Share that was answered after its deadline.
        p50_ms: Latency of answers, from arrival; 0 where nothing was answered.
        goodput_rps: Answers inside their deadline, per second of the trace.
        switches: How often another option than before took a batch.
        mean_batch: Rows of a call.
        shares: Of answers, by variant.
    """

    strategy: str
    requests: int
    effective_accuracy: float
    refused: float
    dropped: float
    late: float
    p50_ms: float
    p99_ms: float
    goodput_rps: float
    switches: int
    switches_per_minute: float
    mean_batch: float
    shares: Mapping[str, float]

    @property
    def misses(self) -> float:
        """Return the share of requests without an answer inside their deadline."""
        return self.refused + self.dropped + self.late

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"misses": self.misses, "shares": dict(self.shares)}


def credit_of(options: Sequence[Option]) -> dict[str, float]:
    """Return what an answer in time counts, by option id: its accuracy, as far as any is known."""
    known = any(option.accuracy is not None for option in options)
    return {option.id: (option.accuracy or 0.0) if known else 1.0 for option in options}


def result(strategy: str, log: Log, options: Sequence[Option]) -> Result:
    """Return the figures of *log*.

    Args:
        options: All that could have answered.
    """
    count, ends = len(log.outcomes), Counter(outcome.end for outcome in log.outcomes)
    credit = credit_of(options)
    earned = sum(
        credit[each.option.id]
        for each in log.outcomes
        if each.option is not None and each.end == "in_time"
    )
    latencies = sorted(each.latency_s * 1000 for each in log.outcomes if each.option is not None)
    answers = Counter(each.option.variant for each in log.outcomes if each.option is not None)
    length_s = span_s(log.outcomes)
    return Result(
        strategy=strategy,
        requests=count,
        effective_accuracy=earned / count,
        refused=ends["refused"] / count,
        dropped=ends["dropped"] / count,
        late=ends["late"] / count,
        p50_ms=_rank(latencies, 50),
        p99_ms=_rank(latencies, 99),
        goodput_rps=ends["in_time"] / length_s,
        switches=len(log.switches),
        switches_per_minute=len(log.switches) / length_s * 60,
        mean_batch=sum(log.batches) / max(1, len(log.batches)),
        shares={name: n / len(latencies) for name, n in answers.most_common()},
    )


def span_s(outcomes: Sequence[Outcome]) -> float:
    """Return the length of a trace in s, from its beginning to its last end."""
    return max(each.arrival.at + each.latency_s for each in outcomes)


@dataclass(frozen=True, slots=True)
class Timeline:
    """A run by equal steps of time; every list has one entry a step.

    Attributes:
        step_s: Length of a step.
        load_rps: Requests that came.
        misses_rps: Of these, those without an answer inside their deadline.
        answers_rps: By variant, of those that came in the step.
    """

    step_s: float
    load_rps: list[float]
    misses_rps: list[float]
    answers_rps: dict[str, list[float]]


def timeline(log: Log, steps: int) -> Timeline:
    """Return *log* in at most *steps* steps of no less than 0.1 s."""
    last_s = max(each.arrival.at for each in log.outcomes)
    step_s = max(0.1, last_s / steps)
    count = int(last_s / step_s) + 1
    load, misses = [0.0] * count, [0.0] * count
    answers: dict[str, list[float]] = {}
    for each in log.outcomes:
        at = int(each.arrival.at / step_s)
        load[at] += 1 / step_s
        misses[at] += (each.end != "in_time") / step_s
        if each.option is not None:
            answers.setdefault(each.option.variant, [0.0] * count)[at] += 1 / step_s
    return Timeline(step_s, load, misses, answers)


def _rank(ordered: Sequence[float], q: float) -> float:
    """Return a percentile by the nearest rank; 0 of nothing."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(q / 100 * len(ordered)) - 1)]
