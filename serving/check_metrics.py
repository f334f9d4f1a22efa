"""What Prometheus sees of the checks on live traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.lifecycle import SEVERITY


class CheckMetrics(Collector):
    """Reads the host of checks when Prometheus asks.

    Args:
        host: Returns it; None where there is none.
    """

    def __init__(self, host: Callable[[], Host | None]) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        """Yield the families, none where there are no checks."""
        host = self._host()
        if host is None:
            return
        yield from _of_checks(host)
        yield GaugeMetricFamily(
            "scanflow_checks_wealth",
            "Weighted wealth of all checks; the model alarms at the run length.",
            value=host.standing.wealth,
        )
        yield GaugeMetricFamily(
            "scanflow_checks_run_length", "Rows between false alarms.", value=host.run_length
        )
        yield CounterMetricFamily(
            "scanflow_checks_rows", "Rows that the checks have seen.", value=host.rows
        )
        yield CounterMetricFamily(
            "scanflow_tap_dropped_rows",
            "Rows that the checks missed: they came too fast.",
            value=host.tap.dropped_rows,
        )
        yield GaugeMetricFamily(
            "scanflow_tap_waiting_rows", "Rows that wait for them.", value=host.tap.waiting_rows
        )


def _of_checks(host: Host) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "scanflow_check_state", "1: the check's state.", labels=("check", "type", "state")
    )
    score = GaugeMetricFamily(
        "scanflow_check_score", "To be held against the run length.", labels=("check", "type")
    )
    alarms = CounterMetricFamily(
        "scanflow_check_alarms", "Alarms so far.", labels=("check", "type")
    )
    disabled = GaugeMetricFamily(
        "scanflow_check_disabled", "1: it failed, and is off.", labels=("check", "type")
    )
    for watch in host.watches:
        labels = [watch.name, watch.configured.kind]
        for each in SEVERITY:
            state.add_metric([*labels, each], float(watch.life.state == each))
        score.add_metric(labels, watch.score)
        alarms.add_metric(labels, watch.life.alarms)
        disabled.add_metric(labels, float(watch.life.disabled))
    yield from (state, score, alarms, disabled)
