from __future__ import annotations

import re

import numpy as np
import pytest

from scanflow_serve.converters.verification import TOLERANCES, gate, relative_error, verify

LOGITS = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)
REFERENCE = {"logits": LOGITS, "label": LOGITS.argmax(axis=1)}


def changed(**outputs: np.ndarray) -> dict[str, np.ndarray]:
    return REFERENCE | outputs


def test_same_answers_pass_with_their_figures() -> None:
    outcome = verify(REFERENCE, changed(), precision="fp32")
    assert outcome.refusal is None
    assert outcome.figures["logits"].error == 0.0
    assert outcome.figures["logits"].agreement == outcome.figures["label"].agreement == 1.0


def test_additional_outputs_are_no_fault() -> None:
    assert gate(REFERENCE, changed(more=LOGITS), precision="fp32") is None


@pytest.mark.parametrize(
    ("outputs", "says"),
    [
        ({"logits": LOGITS}, r"'label' must be given, got \['logits'\]"),
        (changed(logits=LOGITS.astype(float)), r"float32 \[64, 10\], got float64 \[64, 10\]"),
        (changed(logits=LOGITS[:, :9]), r"float32 \[64, 10\], got float32 \[64, 9\]"),
        (changed(logits=np.where(LOGITS > 2.5, np.inf, LOGITS)), r"must be finite .* NaN or Inf"),
        (changed(logits=np.full_like(LOGITS, np.nan)), r"must be finite .* 640 NaN or Inf"),
        (changed(logits=LOGITS * np.float32(1.01)), r"relative error of 0.001 in fp32, got 0.01"),
        (changed(label=(REFERENCE["label"] + 1) % 10), r"class in 98% of the rows .* got 0.0%"),
    ],
)
def test_fault_is_refused_with_its_figure(outputs: dict[str, np.ndarray], says: str) -> None:
    refusal = gate(REFERENCE, outputs, precision="fp32")
    assert refusal is not None
    assert refusal.code == "verification"
    assert re.search(says, refusal.reason)


def test_rounding_of_bf16_passes_as_bf16_only() -> None:
    rounded = (LOGITS.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    outputs = {"logits": rounded}
    assert gate({"logits": LOGITS}, outputs, precision="bf16") is None
    assert gate({"logits": LOGITS}, outputs, precision="fp32") is not None


def test_small_error_that_changes_classes_is_refused() -> None:
    close = np.tile(np.array([[1.0, 1.00001]], np.float32), (10, 1))
    refusal = gate({"y": close}, {"y": close[:, ::-1].copy()}, precision="fp32")
    assert refusal is not None
    assert "must give the source's class" in refusal.reason


def test_infinities_that_the_source_has_too_are_no_fault() -> None:
    masked = np.array([[-np.inf, 1.0], [0.5, -np.inf]])
    assert gate({"y": masked}, {"y": masked.copy()}, precision="fp32") is None


def test_text_outputs_are_compared_by_value() -> None:
    names = np.array(["a", "b"], dtype=object)
    assert gate({"y": names}, {"y": names.copy()}, precision="fp32") is None
    assert gate({"y": names}, {"y": names[::-1].copy()}, precision="fp32") is not None


def test_relative_error_of_a_zero_reference_is_absolute() -> None:
    assert relative_error(np.zeros(4), np.full(4, 0.5)) == 1.0


def test_tolerance_grows_as_precision_falls() -> None:
    errors = [TOLERANCES[precision].error for precision in ("fp32", "fp16", "bf16", "int8")]
    assert errors == sorted(errors)
