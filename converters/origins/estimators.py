"""scikit-learn estimators and pipelines, with xgboost and lightgbm in them. Runs in a child.

What is served is the numbers: ``probabilities`` of a classifier, (rows, classes), in the order of
its classes; ``scores`` where it has none; ``values`` of everything else, such as (rows, targets)
of a regressor. The label that scikit-learn's ``predict`` gives is the argmax of the first two, in
the names that the policy's ``labels`` (default: the classes) has.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scanflow_serve.converters.origins.archives import require_proportion
from scanflow_serve.converters.origins.consent import require_consent
from scanflow_serve.converters.origins.estimator_export import write_onnx
from scanflow_serve.converters.origins.estimator_inputs import input_specs, table
from scanflow_serve.converters.origins.origin import Exported
from scanflow_serve.converters.origins.rows import in_portions
from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Array, Tensors, TensorSpec

SAFE = "Save it with skops.io.dump(model, FILE.skops)."
Function = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Estimator:
    """A fitted estimator.

    Attributes:
        output: What its answer is called, after what it is.
        function: The method that gives it.
    """

    where: str
    model: Any
    specs: tuple[TensorSpec, ...]
    output: str
    function: Function

    def export(self, folder: Path) -> Exported:
        """Return the estimator as ONNX."""
        path = folder / "model.onnx"
        write_onnx(self.where, self.model, self.specs, self.output, path)
        return Exported(path, self._labels())

    def _labels(self) -> tuple[str, ...] | None:
        classes = getattr(self.model, "classes_", None)
        if isinstance(classes, np.ndarray) and self.output in ("probabilities", "scores"):
            return tuple(map(str, classes.tolist()))
        return None

    def run(self, inputs: Tensors) -> Tensors:
        """Return what the estimator answers."""
        return in_portions(self._answer, inputs)

    def _answer(self, inputs: Tensors) -> Tensors:
        try:
            with warnings.catch_warnings(action="ignore"):  # of names that an array does not have
                answer = np.asarray(self.function(table(self.specs, inputs)))
        except Exception as error:  # what a pipeline's parts raise
            raise ArtifactError(
                f"{self.where}: the estimator must take its inputs, got {type(error).__name__}: "
                f"{error}"
            ) from error
        return {self.output: _as_served(answer, self.output, self.specs)}


def load(saved: Saved) -> Estimator:
    """Return the estimator in a skops or joblib file."""
    model = _read_skops(saved) if saved.loader == "skops" else _read_pickle(saved)
    output, method = _task(model)
    if method is None:
        raise ArtifactError(
            f"{saved.where}: {saved.file.name} must hold a fitted estimator or pipeline with "
            f"predict or transform, got {type(model).__name__}."
        )
    return Estimator(saved.where, model, input_specs(saved, model), output, getattr(model, method))


def _task(model: Any) -> tuple[str, str | None]:
    """Return the output's name and the method that gives it."""
    if hasattr(model, "predict_proba"):
        return "probabilities", "predict_proba"
    if hasattr(model, "decision_function"):  # without classes: how normal a row is
        return "scores" if hasattr(model, "classes_") else "values", "decision_function"
    if hasattr(model, "predict") and not hasattr(model, "cluster_centers_"):
        return "values", "predict"
    return "values", "transform" if hasattr(model, "transform") else None


def _as_served(answer: Array, output: str, specs: tuple[TensorSpec, ...]) -> Array:
    if answer.ndim == 1:
        answer = answer[:, np.newaxis]
        if output == "scores":  # of two classes scikit-learn gives the second's only
            answer = np.hstack([-answer, answer])
    if answer.dtype.kind != "f":
        return answer
    return answer.astype(np.float64 if specs[0].dtype == "float64" else np.float32)


def _read_skops(saved: Saved) -> Any:
    import skops.io

    path = saved.file
    require_proportion(saved.where, path)
    try:
        unknown = sorted(skops.io.get_untrusted_types(file=path))
        if unknown:
            what = f"types that skops does not know: {', '.join(unknown)}"
            require_consent(saved.where, path, what, "Use known types.", trusted=saved.trusted)
        return skops.io.load(path, trusted=unknown)
    except ArtifactError:
        raise
    except Exception as error:  # zip, JSON and skops' own
        raise _malformed(saved, error) from error


def _read_pickle(saved: Saved) -> Any:
    require_consent(saved.where, saved.file, "a pickle", SAFE, trusted=saved.trusted)
    import joblib

    try:
        return joblib.load(saved.file)
    except Exception as error:  # a pickle raises what it likes
        raise _malformed(saved, error) from error


def _malformed(saved: Saved, error: Exception) -> ArtifactError:
    text = " ".join(str(error).split()) or type(error).__name__
    return ArtifactError(
        f"{saved.where}: {saved.file.name} can't be loaded: {text}. Save it again, with the "
        "versions that are installed here."
    )
