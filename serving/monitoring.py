"""A Grafana dashboard and Prometheus alert rules over the metrics of this server.

``make monitoring`` writes both: ``python -m scanflow_serve.serving.monitoring docs/monitoring``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from scanflow_serve.serving import panels

DASHBOARD = "grafana.json"
RULES = "alerts.yaml"
SOURCE = {"type": "prometheus", "uid": "${source}"}


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
    left = top = line = 0
    for number, panel in enumerate(panels.PANELS, start=1):
        height = 4 if panel.kind == "stat" else 8
        if left + panel.width > 24:
            left, top, line = 0, top + line, 0
        line = max(line, height)
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
                    for rule in panels.RULES
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
