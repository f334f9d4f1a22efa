"""What Grafana and Prometheus are given is current, and asks for metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from checks_worlds import World

from scanflow_serve.serving import monitoring
from scanflow_serve.serving.check_metrics import CheckMetrics
from scanflow_serve.serving.metrics import Metrics

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "monitoring"
SUFFIXES = ("_bucket", "_sum", "_count")
BALANCE = "  - balance: {reference: data/digits-validation.npz, target: label}"


def asked():
    """Return every expression of the dashboard and of the rules."""
    panels = json.loads((FOLDER / monitoring.DASHBOARD).read_text())["panels"]
    (group,) = yaml.safe_load((FOLDER / monitoring.RULES).read_text())["groups"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return queries + [rule["expr"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """Return metric -> its kind, of a server with a check."""
    host = World(BALANCE, tmp_path_factory.mktemp("state")).host()
    metrics = Metrics()
    metrics.add(CheckMetrics(lambda: host))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", metrics.exposition().decode(), re.MULTILINE))
    yield kinds
    host.close()


def test_files_are_what_make_monitoring_writes(tmp_path):
    command = [sys.executable, "-m", "scanflow_serve.serving.monitoring", str(tmp_path / "made")]
    subprocess.run(command, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert made == {path.name: path.read_text() for path in FOLDER.iterdir()}


@pytest.mark.parametrize("query", sorted(set(asked())))
def test_metrics_that_are_asked_for_exist(query, exposed):
    names = re.findall(r"\bscanflow_\w+", query)
    assert names
    for name in names:
        family = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        assert family == name or exposed[family] == "histogram"
        # A rate is of what only rises; what is compared or shown as it is may fall.
        assert ("rate(" in query) == (exposed[family] in ("counter", "histogram")), query


def test_panels_do_not_overlap():
    taken = set()
    for panel in monitoring.grafana()["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_rules_have_names_of_their_own_and_say_what_to_know():
    (group,) = monitoring.rules()["groups"]
    names = [rule["alert"] for rule in group["rules"]]
    assert len(set(names)) == len(names)
    for rule in group["rules"]:
        assert "{{ $labels.instance }}" in rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+[smh]", rule["for"])
