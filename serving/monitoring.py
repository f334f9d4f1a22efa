"""A Grafana dashboard and Prometheus alert rules over the metrics of this server.

``make monitoring`` writes both: ``python -m scanflow_serve.serving.monitoring docs/monitoring``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DASHBOARD = "grafana.json"
RULES = "alerts.yaml"
WINDOW = "$__rate_interval"  # Grafana's: at least four scrapes
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        unit: As Grafana names it.
        queries: PromQL, and how its series are called.
        width: Of 24 columns.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert.

    Attributes:
        holds: How long *expression* must hold, as Prometheus writes it.
    """

    name: str
    expression: str
    holds: str
    severity: str
    summary: str


def _quantiles(metric: str, label: str) -> tuple[tuple[str, str], ...]:
    rate = f"sum by (le, {label}) (rate({metric}_bucket[{WINDOW}]))"
    return tuple(
        (f"histogram_quantile({q}, {rate})", f"p{round(q * 100)} {{{{{label}}}}}")
        for q in (0.5, 0.95, 0.99)
    )


PANELS = (
    Panel("Ready", "none", (("scanflow_ready", "{{instance}}"),), "stat", 4),
    Panel("In flight", "none", (("scanflow_in_flight", "{{instance}}"),), "stat", 4),
    Panel("What runs", "none", (("scanflow_plan", "{{variant}}"),), "stat", 8),
    Panel(
        "Checks in alarm",
        "none",
        (('sum by (instance) (scanflow_check_state{state="alarm"})', "{{instance}}"),),
        "stat",
        8,
    ),
    Panel(
        "Requests",
        "reqps",
        (
            (
                f"sum by (route, status) (rate(scanflow_requests_total[{WINDOW}]))",
                "{{route}} {{status}}",
            ),
        ),
    ),
    Panel("Latency of requests", "s", _quantiles("scanflow_request_seconds", "route")),
    Panel(
        "Rows by variant",
        "rowsps",
        ((f"sum by (variant) (rate(scanflow_predictions_total[{WINDOW}]))", "{{variant}}"),),
    ),
    Panel(
        "Refused or failed",
        "reqps",
        ((f"sum by (model) (rate(scanflow_inference_failures_total[{WINDOW}]))", "{{model}}"),),
    ),
    Panel("Inference", "s", _quantiles("scanflow_compute_seconds", "model")),
    Panel("Wait before inference", "s", _quantiles("scanflow_queue_seconds", "model")),
    Panel(
        "Checks against the run length",
        "none",
        (
            ("scanflow_check_score", "{{check}}"),
            ("scanflow_checks_wealth", "all together"),
            ("scanflow_checks_run_length", "threshold"),
        ),
    ),
    Panel("State of checks", "none", (("scanflow_check_state == 1", "{{check}} {{state}}"),)),
    Panel(
        "Rows that checks saw and missed",
        "rowsps",
        (
            (f"rate(scanflow_checks_rows_total[{WINDOW}])", "seen"),
            (f"rate(scanflow_tap_dropped_rows_total[{WINDOW}])", "missed"),
        ),
    ),
)

RULES_OF_SERVER = (
    Rule(
        "ScanflowNotReady",
        "scanflow_ready == 0",
        "2m",
        "critical",
        "{{ $labels.instance }} has answered no predictions for two minutes.",
    ),
    Rule(
        "ScanflowRefuses",
        'sum by (instance) (rate(scanflow_requests_total{status=~"429|5.."}[5m]))'
        " > 0.05 * sum by (instance) (rate(scanflow_requests_total[5m]))",
        "5m",
        "warning",
        "{{ $labels.instance }} refuses or fails more than one request in twenty.",
    ),
    Rule(
        "ScanflowCheckAlarm",
        'scanflow_check_state{state="alarm"} == 1',
        "0m",  # latched until a person acknowledges it: it needs no time to settle
        "warning",
        "Check {{ $labels.check }} of {{ $labels.instance }} is in alarm. /ui shows why.",
    ),
    Rule(
        "ScanflowCheckDisabled",
        "scanflow_check_disabled == 1",
        "0m",
        "warning",
        "Check {{ $labels.check }} of {{ $labels.instance }} failed, and is off.",
    ),
    Rule(
        "ScanflowChecksMissRows",
        "rate(scanflow_tap_dropped_rows_total[10m]) > 0.1 * rate(scanflow_checks_rows_total[10m])",
        "10m",
        "info",
        "Checks of {{ $labels.instance }} miss more than one row in ten: they come too fast.",
    ),
)


def grafana() -> dict[str, Any]:
    """Return the dashboard, as Grafana 10 and newer import it."""
    return {
        "title": "scanflow-serve",
        "uid": "scanflow-serve",
        "schemaVersion": 39,
        "tags": ["scanflow"],
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus"}],
        },
        "panels": list(_placed()),
    }


def _placed() -> Iterator[dict[str, Any]]:
    """Yield the panels from left to right, line by line."""
    left = top = 0
    for number, panel in enumerate(PANELS, start=1):
        height = 4 if panel.kind == "stat" else 8
        if left + panel.width > 24:
            left, top = 0, top + height
        yield {
            "id": number,
            "title": panel.title,
            "type": panel.kind,
            "datasource": SOURCE,
            "gridPos": {"x": left, "y": top, "w": panel.width, "h": height},
            "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
            "targets": [
                {"refId": chr(65 + place), "expr": query, "legendFormat": legend}
                for place, (query, legend) in enumerate(panel.queries)
            ],
        }
        left += panel.width


def rules() -> dict[str, Any]:
    """Return the alert rules, as a file of Prometheus' ``rule_files``."""
    return {
        "groups": [
            {
                "name": "scanflow-serve",
                "rules": [
                    {
                        "alert": rule.name,
                        "expr": rule.expression,
                        "for": rule.holds,
                        "labels": {"severity": rule.severity},
                        "annotations": {"summary": rule.summary},
                    }
                    for rule in RULES_OF_SERVER
                ],
            }
        ]
    }


def files() -> dict[str, str]:
    """Return the text of each file, by name."""
    return {
        DASHBOARD: json.dumps(grafana(), indent=2) + "\n",
        RULES: yaml.safe_dump(rules(), sort_keys=False, width=100),
    }


def main(folder: Path) -> None:
    """Write both files into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
