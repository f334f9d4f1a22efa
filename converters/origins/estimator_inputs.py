"""What a scikit-learn estimator takes: one matrix, or a table of columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from scanflow_serve.converters.origins.saved import Saved
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import Tensors, TensorSpec

MATRIX = "input"  # the name of an input that nobody named


def input_specs(saved: Saved, model: Any) -> tuple[TensorSpec, ...]:
    """Return the estimator's inputs: a matrix where all it takes are numbers, else columns.

    Raises:
        ArtifactError: Neither the estimator nor the policy says what it takes.
    """
    columns = _is_table(model)
    given = saved.inputs
    if len(given) == 1 and len(given[0].shape) == 2 and not (columns and given[0].shape[1] == 1):
        return (_sized(given[0], model),)
    features = getattr(model, "n_features_in_", None)
    if not columns and features is not None:
        double = bool(given) and all(spec.dtype == "float64" for spec in given) and saved.named
        return (TensorSpec(MATRIX, "float64" if double else "float32", (None, int(features))),)
    if not given:
        names = [str(name) for name in getattr(model, "feature_names_in_", [])] or ["NAME"]
        raise ArtifactError(
            f"{saved.where}: the estimator does not say which dtypes its columns have. Add to the "
            f"model in the policy: inputs: {{{names[0]}: {{shape: [-1, 1], dtype: str}}, …}}"
        )
    return tuple(TensorSpec(spec.name, spec.dtype, (None, 1)) for spec in given)


def table(specs: tuple[TensorSpec, ...], inputs: Tensors) -> Any:
    """Return *inputs* as the estimator takes them: an array, or a data frame of columns."""
    if len(specs) == 1 and specs[0].shape[1:] != (1,):
        return inputs[specs[0].name]
    import pandas as pd

    return pd.DataFrame({spec.name: np.ravel(inputs[spec.name]) for spec in specs})


def _is_table(model: Any) -> bool:
    """Return whether a step picks columns by name, so that they must be apart."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(model, ColumnTransformer):
        return any(
            isinstance(name, str)
            for _, _, picked in model.transformers
            for name in (picked if isinstance(picked, list) else [picked])
        )
    if isinstance(model, Pipeline):
        return any(_is_table(step) for _, step in model.steps)
    if isinstance(model, FeatureUnion):
        return any(_is_table(step) for _, step in model.transformer_list)
    return False


def _sized(spec: TensorSpec, model: Any) -> TensorSpec:
    features = getattr(model, "n_features_in_", spec.shape[1])
    return TensorSpec(spec.name, spec.dtype, (None, features))
