"""Settings that a check's type does not take are faults at their place in the policy."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanflow_serve.policies.check_settings import SETTINGS
from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.policies.loader import load_policy

CONTRACT = Path(__file__).parents[1] / "contract"
DOCS = Path(__file__).parents[2] / "docs"


def load(settings: str, base: str = "quickstart.yaml") -> None:
    text = (CONTRACT / base).read_text() + f"\nchecks:\n  - integrity: {{{settings}}}\n"
    load_policy(CONTRACT / "policy.yaml", text=text)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "on_fail: repair, schema: infer, margin: 0.5",
        "range: {pixels: [0, null]}, levels: {colour: [red, 7, true]}, cooldown_s: 60",
    ],
)
def test_settings_of_integrity_load(settings: str) -> None:
    load(settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("ranges: {}", r"integrity\.ranges is not a setting of integrity\. Did you mean 'range'\?"),
        ("range: {pixels: [0]}", r"integrity\.range\.pixels must have at least 2 item"),
        ("range: {pixels: [16, 0]}", r"integrity\.range must give 'pixels' its lowest value first"),
        ("range: {pixels: [low, 1]}", r"range\.pixels\[0\] must be a number, got 'low'"),
        ("levels: {colour: []}", r"integrity\.levels must give 'colour' at least one text"),
        ("margin: -1", r"integrity\.margin must be >= 0, got -1"),
        ("schema: none.yaml", r"integrity\.schema must be a file that exists, got 'none\.yaml'"),
        ("schema: ../a.yaml", r"integrity\.schema must be a relative path inside the policy's"),
    ],
)
def test_fault_of_a_setting_is_told_at_its_place(settings: str, message: str) -> None:
    with pytest.raises(PolicyError, match=rf"policy\.yaml:\d+:\d+: .*{message}"):
        load(settings)


def test_schema_can_be_inferred_only_from_something() -> None:
    text = (CONTRACT / "quickstart.yaml").read_text()
    text = text[: text.index("validation:")] + text[text.index("workflows:") :]
    text = text.replace("maximize: accuracy", "minimize: latency_p95_ms")
    bare = f"{text}\nchecks:\n  - integrity: {{schema: infer}}\n"
    with pytest.raises(PolicyError, match=r"schema must have rows to be inferred from, got no ref"):
        load_policy(CONTRACT / "policy.yaml", text=bare)


def test_docs_tell_every_setting_of_integrity() -> None:
    page = (DOCS / "checks.md").read_text()
    section = page.split("## Integrity")[1].split("### Rules")[0]
    for name, field in SETTINGS["integrity"].model_fields.items():
        assert f"`{field.alias or name}`" in section
