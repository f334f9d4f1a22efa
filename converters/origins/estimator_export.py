"""scikit-learn to ONNX, by skl2onnx. Runs in a child process."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

OPSET = {"": 18, "ai.onnx.ml": 3}  # what onnxmltools' converters of trees write
# A product with 1/std rounds otherwise than scikit-learn's quotient: trees behind it, whose
# thresholds are training values, then took the other branch for a third of 300 digits. scikit-learn
# 1.9 divides in the dtype of its input.
EXACT = {"div": "div"}
TYPES = {
    "float32": "FloatTensorType",
    "float64": "DoubleTensorType",
    "int64": "Int64TensorType",
    "int32": "Int32TensorType",
    "uint8": "UInt8TensorType",
    "bool": "BooleanTensorType",
    "str": "StringTensorType",
}


def write_onnx(
    where: str, model: Any, specs: tuple[TensorSpec, ...], output: str, path: Path
) -> None:
    """Write *model* as ONNX to *path*: its last output, called *output*.

    Raises:
        ArtifactError: skl2onnx has no converter for one of its parts.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common import data_types
    from sklearn.preprocessing import StandardScaler

    _register_trees()
    kinds = [(s.name, getattr(data_types, TYPES[s.dtype])([None, *s.shape[1:]])) for s in specs]
    # By default probabilities are a list of maps, which no other runtime takes.
    options: dict[Any, Any] = {StandardScaler: EXACT}
    if output == "probabilities":
        options[id(model)] = {"zipmap": False}
    try:
        with warnings.catch_warnings(action="ignore"):
            made = to_onnx(model, initial_types=kinds, options=options, target_opset=OPSET)
    except Exception as error:  # its own errors derive from RuntimeError, ValueError and others
        text = next((line for line in str(error).strip().split("\n") if line), repr(error))
        raise ArtifactError(
            f"{where}: skl2onnx must know every part of {type(model).__name__}, got "
            f"{type(error).__name__}: {text} Replace that part."
        ) from error
    _keep_last(made, output)
    path.write_bytes(made.SerializeToString())


def _keep_last(made: Any, output: str) -> None:
    """Keep the last output only, under its new name, and the nodes that it needs."""
    from onnx import helper

    graph = made.graph
    last = graph.output[-1]
    elem = last.type.tensor_type.elem_type
    dims = [d.dim_value or None for d in last.type.tensor_type.shape.dim]
    if output == "scores" and len(dims) == 2 and dims[1] == 1:
        # Of two classes only the second's score is there: give both, as argmax wants it.
        graph.node.append(helper.make_node("Neg", [last.name], [f"{output}_negative"]))
        pair = [f"{output}_negative", last.name]
        graph.node.append(helper.make_node("Concat", pair, [output], axis=1))
        dims[1] = 2
    elif last.name != output:
        graph.node.append(helper.make_node("Identity", [last.name], [output]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(output, elem, ["batch", *dims[1:]]))
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    needed, kept = {output}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [weight for weight in graph.initializer if weight.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _register_trees() -> None:
    """Tell skl2onnx of xgboost's and lightgbm's estimators, where a model has them."""
    from skl2onnx.common import shape_calculator as shapes

    classes = shapes.calculate_linear_classifier_output_shapes
    values = shapes.calculate_linear_regressor_output_shapes
    if _loaded("xgboost"):
        import xgboost
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost

        _register(xgboost.XGBClassifier, classes, convert_xgboost)
        _register(xgboost.XGBRegressor, values, convert_xgboost)
    if _loaded("lightgbm"):
        import lightgbm
        from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm

        _register(lightgbm.LGBMClassifier, classes, convert_lightgbm)
        _register(lightgbm.LGBMRegressor, values, convert_lightgbm)


def _loaded(name: str) -> bool:
    # Reading the model's file has imported what it is made of; the others take a second.
    return name in sys.modules and importlib.util.find_spec("onnxmltools") is not None


def _register(estimator: type, shapes: Callable[..., Any], convert: Callable[..., Any]) -> None:
    from skl2onnx import update_registered_converter

    options = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    classifier = hasattr(estimator, "predict_proba")
    update_registered_converter(
        estimator,
        f"Scanflow{estimator.__name__}",
        shapes,
        convert,
        options=options if classifier else None,
    )
