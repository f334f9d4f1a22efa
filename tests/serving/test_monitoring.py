"""What Grafana and Prometheus are given is current, and asks for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import live_server
import numpy as np
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from scanflow_serve.serving import monitoring

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "monitoring"
CONTRACT = ROOT / "tests" / "contract"
SUFFIXES = ("_bucket", "_sum", "_count", "_total")
BALANCE = "  - balance: {reference: data/digits-validation.npz, target: label}"


def asked():
    """Return every expression of the dashboard and of the rules."""
    panels = json.loads((FOLDER / monitoring.DASHBOARD).read_text())["panels"]
    (group,) = yaml.safe_load((FOLDER / monitoring.RULES).read_text())["groups"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return queries + [rule["expr"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def told(server, tmp_path_factory):
    """Return what the metrics of a real server say that has a check and has answered: by name."""
    folder = Path(shutil.copytree(CONTRACT, tmp_path_factory.mktemp("monitored") / "contract"))
    policy = folder / "quickstart.yaml"
    policy.write_text(f"{policy.read_text()}\nchecks:\n{BALANCE}\n")
    with np.load(folder / "data" / "digits-validation.npz") as file:
        rows = file["pixels"][:20].tolist()
    with server(policy) as running:
        running.predict(rows)
        text = live_server.fetch(f"{running.url}/metrics").decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_files_are_what_make_monitoring_writes(tmp_path):
    command = [sys.executable, "-m", "scanflow_serve.serving.monitoring", str(tmp_path / "made")]
    subprocess.run(command, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert made == {path.name: path.read_text() for path in FOLDER.iterdir()}


@pytest.mark.slow
def test_metrics_that_are_asked_for_exist_on_a_real_server(told):
    for query in sorted(set(asked())):
        names = re.findall(r"\bscanflow_\w+", query)
        assert names
        for name in names:
            family = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
            assert family in told, query
            kind = told[family].type
            if kind == "gauge":
                assert name == family, query
            # A rate is of what only rises; what is compared or shown as it is may fall.
            assert ("rate(" in query) == (kind in ("counter", "histogram")), query


@pytest.mark.slow
def test_labels_that_are_asked_for_are_those_of_the_metrics(told):
    seen = set()
    for query in set(asked()):
        for name in re.findall(r"\bscanflow_\w+", query):
            family = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
            known = {label for sample in told[family].samples for label in sample.labels}
            known |= {"instance", "le"}  # Prometheus' own; histograms'
            wanted = set(re.findall(r"(\w+)(?:=~|=)\"", query))
            for group in re.findall(r"by \(([^)]*)\)", query):
                wanted |= {label.strip() for label in group.split(",")}
            if told[family].samples:
                assert wanted <= known, query
                seen.add(family)
    assert len(seen) > 15


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
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_labels_of_a_summary_survive_its_expression():
    """What an aggregation drops, a summary can't name: it would read "of  is in alarm"."""
    (group,) = monitoring.rules()["groups"]
    for rule in group["rules"]:
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        for kept in re.findall(r"by \(([^)]*)\)", rule["expr"]):
            assert named <= {label.strip() for label in kept.split(",")}, rule["alert"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_rules():
    command = ["promtool", "check", "rules", str(FOLDER / monitoring.RULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(monitoring.rules()['groups'][0]['rules'])} rules found" in done.stdout


def test_parentheses_and_braces_of_expressions_are_balanced():
    """What Prometheus would refuse first, where promtool is not there to say so."""
    pairs = {")": "(", "]": "[", "}": "{"}
    for query in asked():
        open_: list[str] = []
        for sign in re.sub(r'"[^"]*"', "", query):
            if sign in pairs.values():
                open_.append(sign)
            elif sign in pairs:
                assert open_, query
                assert open_.pop() == pairs[sign], query
        assert not open_, query
