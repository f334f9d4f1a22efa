"""Settings of ``drift``, ``anomaly`` and ``balance`` are those of their type and method."""

from __future__ import annotations

from pathlib import Path

import pytest

from scanflow_serve.policies.check_settings import (
    METHODS,
    OF_METHODS,
    SCORES,
    SEQUENCES,
    SETTINGS,
    TRAINED,
    WINDOWED,
)
from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.checks import kinds, recipes

CONTRACT = Path(__file__).parents[1] / "contract"
DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = "reference: data/digits-train.npz, input: pixels"


def load(check: str) -> None:
    text = (CONTRACT / "quickstart.yaml").read_text() + f"\nchecks:\n  - {check}\n"
    load_policy(CONTRACT / "policy.yaml", text=text)


@pytest.mark.parametrize(
    "check",
    [
        f"drift: {{{REFERENCE}, components: 8, epochs: 50, members: [classes], strict: true}}",
        f"drift: {{method: lstm, {REFERENCE}, ordered: true, steps: 16}}",
        "anomaly: {method: pca, alpha: 0.05, warmup_rows: 900, min_span_s: 60}",
        "balance: {cooldown_s: 60}",
        "drift: {method: mmd, window: 100}",
    ],
)
def test_settings_of_a_method_load(check: str) -> None:
    load(check)


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ("drift: {method: autoencodr}",
         r"drift\.method must be one of autoencoder, .*, got 'autoencodr'\. Did you mean 'auto"),
        ("anomaly: {method: ks}", r"anomaly\.method must be one of autoencoder, .*, got 'ks'"),
        ("drift: {epoch: 3}", r"drift\.epoch is not a setting of drift\. Did you mean 'epochs'\?"),
        ("balance: {alpha: 0.1}", r"balance\.alpha is not a setting of balance"),
        ("drift: {components: 0}", r"drift\.components must be >= 1, got 0"),
        ("anomaly: {alpha: 1.5}", r"anomaly\.alpha must be < 1, got 1\.5"),
        ("drift: {steps: 8}",
         r"drift\.steps must come with method window_dense, lstm, pca, got method 'autoencoder'"),
        ("drift: {method: pca, epochs: 8}",
         r"drift\.epochs must come with method autoencoder, window_dense, lstm, got method 'pca'"),
        (f"drift: {{method: lstm, {REFERENCE}}}",
         r"drift\.reference must be in order of time for method 'lstm', got ordered: false\. "
         "Say ordered: true"),
        ("drift: {members: [classes, colour]}", r"drift\.members\[1\] must be one of confidence,"),
    ],
)  # fmt: skip
def test_fault_of_a_setting_is_told_at_its_place(check: str, message: str) -> None:
    with pytest.raises(PolicyError, match=rf"policy\.yaml:\d+:\d+: checks\[0\]\.{message}"):
        load(check)


def test_policies_know_the_methods_that_the_runtime_has() -> None:
    assert set(SCORES) == set(kinds.SCORES)
    assert set(WINDOWED) == set(kinds.WINDOWED)
    assert set(TRAINED) == set(recipes.TRAINED)
    assert set(SEQUENCES) == set(recipes.SEQUENCES)
    assert METHODS["drift"][0] == recipes.DEFAULT


def test_docs_tell_every_setting_of_a_method() -> None:
    section = (DOCS / "checks.md").read_text().split("## Drift, anomaly, balance")[1]
    for kind in ("anomaly", "drift", "balance"):
        for name in SETTINGS[kind].model_fields:
            assert f"`{name}`" in section
    assert all(f"`{name}`" in section for name in OF_METHODS)
