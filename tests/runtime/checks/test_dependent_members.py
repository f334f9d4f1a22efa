"""Windows and classes say so where reference rows tell what the next will be, else nothing."""

from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.checks.classes import ClassMember
from scanflow_serve.runtime.checks.rows import Answers, Reference, Setting
from scanflow_serve.runtime.checks.windowed import WindowMember
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec

FEATURES = 4
SETTING = Setting(
    Signature(
        (TensorSpec("sensor", "float32", (None, FEATURES)),),
        (TensorSpec("odds", "float32", (None, 2)),),
    )
)
VARIANT = "mlp"


def noise(seed: int, rows: int = 2000) -> Array:
    return np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)


def one_remembers(seed: int, memory: float = 0.3) -> Array:
    """Rows of which the last feature is a little of what it was before."""
    rows = noise(seed)
    for row in range(1, len(rows)):
        rows[row, -1] += memory * rows[row - 1, -1]
    return rows


def windows(rows: Array) -> WindowMember:
    member = WindowMember(SETTING, "ks", 200)
    member.fit(Reference({"sensor": rows}, ordered=True))
    return member


def classes(predicted: Array) -> ClassMember:
    member = ClassMember()
    answers = Answers({}, None, predicted.astype(np.int64))
    member.fit(Reference({"sensor": noise(0, len(predicted))}, {VARIANT: answers}))
    return member


def test_windows_say_that_a_feature_resembles_its_past_and_what_to_do() -> None:
    said = windows(one_remembers(0)).caution
    assert said.startswith("ks: reference rows resemble their neighbours (correlation 0.3")
    assert "false alarms will come more often" in said
    assert "block:" in said


def test_windows_of_a_reference_of_independent_rows_say_nothing() -> None:
    """At one in a thousand for all features together: 40 are a fair sample of never."""
    assert not [seed for seed in range(40) if windows(noise(seed)).caution]


def test_features_of_few_values_are_no_memory_of_their_own() -> None:
    rows = noise(1)
    rows[:, 0] = 3.0
    rows[:, 1] = rows[:, 1] > 0
    rows[:, 2] = 0.0
    rows[500:503, 2] = 9.0  # a pixel that is hardly ever set, three times in a row
    assert windows(rows).caution == ""


def test_classes_that_come_in_runs_are_told() -> None:
    random = np.random.default_rng(0)
    assert classes(random.integers(2, size=1500)).caution == ""
    runs = np.repeat(random.integers(2, size=300), 5)
    assert classes(runs).caution.startswith("classes: reference rows resemble their neighbours")


@pytest.mark.parametrize("kind", ["windows", "classes"])
def test_what_was_said_is_known_after_a_restart(kind: str) -> None:
    if kind == "windows":
        before, after = windows(one_remembers(0)), WindowMember(SETTING, "ks", 200)
    else:
        runs = np.repeat(np.random.default_rng(0).integers(2, size=300), 5)
        before, after = classes(runs), ClassMember()  # type: ignore[assignment]
    after.restore(before.state())
    assert before.caution
    assert after.caution == before.caution
