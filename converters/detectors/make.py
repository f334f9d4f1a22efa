"""From reference rows to a detector in the store: trained, calibrated, and held to its promise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.converters.detectors.runner import Progress, train_detector
from scanflow_serve.converters.runner import Limits
from scanflow_serve.policies.errors import DataError
from scanflow_serve.runtime.artifacts import Artifact, Manifest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.checks.kinds import scored
from scanflow_serve.runtime.checks.recipes import VERSION, detector_key
from scanflow_serve.runtime.checks.reconstruction import (
    ReconstructionError,
    cut_windows,
    fit_rows,
)
from scanflow_serve.runtime.checks.rows import Reference
from scanflow_serve.runtime.checks.scored import ANY, observed
from scanflow_serve.runtime.checks.statistics.conformal import Calibration
from scanflow_serve.runtime.checks.statistics.promise import ALPHA, outlier_limits
from scanflow_serve.runtime.checks.statistics.splits import Splits
from scanflow_serve.runtime.checks.trained import BACKEND
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.store import ArtifactStore
from scanflow_serve.runtime.stored import Made, Refused
from scanflow_serve.runtime.tensors import Array

CALIBRATION = "calibration.npy"  # scores of the calibration rows, beside the ONNX
TIMED_ROWS = 200
TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class Order:
    """A detector that a policy needs.

    Attributes:
        where: Place in the policy, for errors.
        check: The check's name.
        score: What will run it; its method and inputs are known.
        alpha: Share of rows that it is to flag.
    """

    where: str
    check: str
    score: ReconstructionError
    reference: Reference
    alpha: float = ALPHA


def make(
    order: Order,
    store: ArtifactStore,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Artifact | Refused:
    """Return the detector in the *store*, made now unless it is known; or why it is refused.

    Raises:
        DataError: There are too few rows, or windows are asked of rows in no order.
        ArtifactError: The rows can't be learned, or training crashed or went over *limits*.
        MissingExtraError: torch is not installed.
    """
    try:
        parts = scored(order.check, order.score, order.score.setting).parts(order.reference)
        _require_rows(order, parts)
        matrix, run = fit_rows(
            order.score.recipe, order.score.names, order.reference.take(parts.fit)
        )
        windows = cut_windows(matrix, run, order.score.span)
    except ValueError as error:
        raise DataError(f"{order.where}: {error}") from None
    key = detector_key(order.score.recipe, matrix, run)

    def made(folder: Path) -> Made | Refused:
        start = time.perf_counter()
        path, figures = train_detector(
            order.where, order.score.recipe, windows, folder, limits=limits, progress=progress
        )
        manifest = Manifest(
            source=order.reference.source,
            source_digest=key,
            route=("detector", order.score.recipe.method),
            tools={name: registry.version(name) for name in TOOLS} | {"recipe": str(VERSION)},
            options=order.score.recipe.to_json(),
            durations_s={"train": round(time.perf_counter() - start, 3)},
        )
        return _verified(order, parts, path, manifest, figures)

    return store.publish(key, made)


def _verified(
    order: Order, parts: Splits, path: Path, manifest: Manifest, figures: Mapping[str, Any]
) -> Made | Refused:
    """Return the detector with its limits, as the serving process will have them."""
    signature = registry.backend(BACKEND).signature(str(path))
    draft = Artifact(
        "", order.check, "onnx", "fp32", path, path.stat().st_size, signature, manifest
    )
    score = ReconstructionError(order.score.setting, order.score.recipe, lambda _: draft)
    member = scored(order.check, score, order.score.setting)
    refusal = None
    try:
        member.fit(order.reference)
    except ValueError as error:
        refusal = Refusal("verification", str(error))
    told = dict(figures) | {"rows": _sizes(parts)}
    if refusal is not None:
        manifest = replace(manifest, verification=told)
        return Refused(order.check, "onnx", "fp32", refusal, manifest)
    calibration = member.calibrations[ANY].rest
    np.save(path.parent / CALIBRATION, calibration.scores)
    verify = dict(member.scores(order.reference, parts.verify))[ANY]
    told |= _promise(order, calibration, verify) | {"row_us": row_us(score, order.reference)}
    manifest = replace(manifest, verification=told)
    files = (path, path.parent / CALIBRATION)
    return Made(order.check, "onnx", "fp32", files, signature, manifest)


def _promise(order: Order, calibration: Calibration, verify: Array) -> dict[str, Any]:
    """Return the limits, the promised rate with its 95 % interval, and that of *verify*."""
    limits = outlier_limits(calibration, order.alpha)
    outside = (verify < limits.low) | (verify > limits.high)
    return {
        "alpha": order.alpha,
        "low": limits.low,
        "high": limits.high,
        "rate": limits.rate,
        "rate_low": limits.rate_low,
        "rate_high": limits.rate_high,
        "rate_verified": float(outside.mean()),
        "calibration_scores": calibration.rows,
        "verified_scores": len(verify),
    }


def row_us(score: ReconstructionError, reference: Reference) -> float:
    """Return the median time that one live row takes, in µs."""
    times: list[float] = []
    index = np.arange(1)
    for row in range(min(TIMED_ROWS, reference.rows)):
        one = observed(reference.take(index + row), ANY)
        start = time.perf_counter()
        score.score(one)
        times.append(time.perf_counter() - start)
    score.forget()
    return round(float(np.median(times)) * 1e6, 1)


def _require_rows(order: Order, parts: Splits) -> None:
    """Check that the calibration split can tell so small a share as `alpha`.

    Raises:
        ValueError: It can't; says how many rows can.
    """
    span = order.score.span
    needed = int(np.ceil(2 / order.alpha - 1 - 1e-9))
    # Windows that share no row; cutting blocks costs some.
    have = len(parts.calibrate) // span
    if have < needed:
        unit = "rows" if span == 1 else f"windows of {span} rows"
        raise ValueError(
            f"reference must give >= {needed} {unit} to calibrate on, to flag {order.alpha:.3g} "
            f"of them, got {have} of {order.reference.rows} rows. Give "
            f"{int(np.ceil(needed * span * 10 / 3))} rows, or use method: pca."
        )


def _sizes(parts: Splits) -> dict[str, int]:
    return {name: len(getattr(parts, name)) for name in ("fit", "calibrate", "verify")}
