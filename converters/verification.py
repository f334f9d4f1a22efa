"""Whether a variant answers as the model it was made from does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.tensors import Array, Tensors


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a precision may cost: relative error at most, agreement at least."""

    error: float
    agreement: float


# The error of one rounding (unit roundoff) is 6e-8, 4.9e-4 and 3.9e-3 in fp32, fp16 and bf16;
# it grows with depth, and ResNet-18 in bf16 has shown 4e-3 (FACTS). An order of magnitude above
# that is no longer rounding. w16 rounds the weights only. int8 has no such bound: what counts
# there is agreement, and the accuracy on validation, which selection holds against
# max_accuracy_drop. In w8 each weight is off by 1/254 of its channel's range at most: networks of
# the digits have shown relative errors of 0.003 to 0.009.
TOLERANCES = {
    "fp32": Tolerance(error=1e-3, agreement=0.98),
    "fp16": Tolerance(error=2e-2, agreement=0.95),
    "bf16": Tolerance(error=5e-2, agreement=0.95),
    "int8": Tolerance(error=3e-1, agreement=0.90),
    "w16": Tolerance(error=5e-3, agreement=0.97),
    "w8": Tolerance(error=1e-1, agreement=0.95),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output against the reference's.

    Attributes:
        error: `relative_error`; None where the output is no float.
        agreement: Share of rows with the same class: the largest of (rows, classes) floats, the
            value itself of integers, booleans and text; None for other floats.
    """

    error: float | None = None
    agreement: float | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome: the figures of every output, and the first reason to refuse, if any."""

    figures: Mapping[str, Comparison]
    refusal: Refusal | None = None


def gate(reference: Tensors, outputs: Tensors, *, precision: str) -> Refusal | None:
    """Return why *outputs* may not be served, or None if they may; see `verify`."""
    return verify(reference, outputs, precision=precision).refusal


def verify(reference: Tensors, outputs: Tensors, *, precision: str) -> Verification:
    """Return how *outputs* compare to the *reference*'s for the same rows.

    Args:
        reference: Outputs of the source model, by name, shape (rows, …).
        outputs: Outputs of the variant for the same inputs.
        precision: The variant's effective precision, a key of `TOLERANCES`.
    """
    figures: dict[str, Comparison] = {}
    reasons: list[str] = []
    for name, wanted in reference.items():
        fault = _form_fault(name, wanted, outputs)
        if fault is None:
            figures[name] = _compare(wanted, outputs[name])
            reasons.extend(_faults(name, figures[name], precision))
        else:
            reasons.append(fault)
    refusal = Refusal("verification", f"{reasons[0]}.") if reasons else None
    return Verification(figures=figures, refusal=refusal)


def relative_error(reference: Array, values: Array) -> float:
    """Return the norm of the difference over the norm of *reference*; absolute where that is 0.

    Source:
        Higham, Accuracy and Stability of Numerical Algorithms (2002), section 1.2: normwise
        relative error, in the 2-norm over all elements.

    >>> relative_error(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    0.1
    """
    exact = reference.astype(np.float64).ravel()
    norm = float(np.linalg.norm(exact))
    difference = float(np.linalg.norm(values.astype(np.float64).ravel() - exact))
    return difference / norm if norm else difference


def _form_fault(name: str, wanted: Array, outputs: Tensors) -> str | None:
    if name not in outputs:
        return f"output {name!r} must be given, got {sorted(outputs)}"
    got = outputs[name]
    if got.dtype != wanted.dtype or got.shape != wanted.shape:
        form, found = (f"{a.dtype} {list(a.shape)}" for a in (wanted, got))
        return f"output {name!r} must be {form}, got {found}"
    if wanted.dtype.kind == "f":
        lost = int(np.count_nonzero(np.isfinite(wanted) & ~np.isfinite(got)))
        if lost:
            return f"output {name!r} must be finite where the source's is, got {lost} NaN or Inf"
    return None


def _compare(wanted: Array, got: Array) -> Comparison:
    if wanted.dtype.kind != "f":
        return Comparison(agreement=float(np.mean(wanted == got)) if wanted.size else 1.0)
    finite = np.isfinite(wanted)
    error = relative_error(wanted[finite], got[finite])
    if wanted.ndim != 2 or wanted.shape[1] < 2 or not len(wanted):
        return Comparison(error=error)
    same = wanted.argmax(axis=1) == got.argmax(axis=1)
    return Comparison(error=error, agreement=float(same.mean()))


def _faults(name: str, figures: Comparison, precision: str) -> Iterator[str]:
    allowed = TOLERANCES[precision]
    if figures.error is not None and not figures.error <= allowed.error:
        yield (
            f"output {name!r} must be within a relative error of {allowed.error:g} in {precision}, "
            f"got {figures.error:.2g}"
        )
    if figures.agreement is not None and figures.agreement < allowed.agreement:
        yield (
            f"output {name!r} must give the source's class in {allowed.agreement:.0%} of the rows "
            f"in {precision}, got {figures.agreement:.1%}"
        )
