"""Whether an ONNX file is what it says, before a converter trusts it.

Converters are native code that believes a file: a tensor that declares 10^12 numbers is allocated
before its bytes are looked for, external data is opened wherever the file says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from scanflow_serve.converters.onnx_structure import read_structure
from scanflow_serve.policies.errors import ArtifactError

# Bits of an element; text has no size of its own.
_BITS = {
    kind: 4 if name.endswith(("INT4", "E2M1")) else 2 if name.endswith("INT2") else None
    for name, kind in TensorProto.DataType.items()
}
_TYPED = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def load(path: Path) -> ModelProto:
    """Return the model in *path* with its external data, once it has been examined.

    Raises:
        ArtifactError: See `examine`.
    """
    model = examine(path)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: external data can't be read: {_line(error)}.") from error
    return model


def examine(path: Path) -> ModelProto:
    """Return the model in *path*, its external data left where it is.

    Raises:
        ArtifactError: The file is truncated, not ONNX, or breaks its rules (operator and node are
            named); a tensor has not the bytes that it declares; or external data is missing or
            lies outside of the model's folder.
    """
    read_structure(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ArtifactError(f"{path}: must be an ONNX file: {_line(error)}.") from error
    for tensor in tensors(model):
        _examine_tensor(tensor, path)
    try:
        onnx.checker.check_model(path)  # its path, because external data lies beside it
    except onnx.checker.ValidationError as error:
        raise ArtifactError(f"{path}: must be valid ONNX: {_line(error)}.") from error
    except Exception as error:  # the checker's C++ lets what it did not foresee through
        raise ArtifactError(f"{path}: must be valid ONNX, got {_line(error)}.") from error
    return model


def nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Return every node, those of nested graphs and of functions too."""
    yield from _nodes(model.graph)
    for function in model.functions:
        yield from _within(function.node)


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Return every stored tensor, those of attributes and of nested graphs too."""
    yield from _initializers(model.graph)
    for node in nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)
            for graph in graphs(attribute):
                yield from _initializers(graph)


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    yield from _within(graph.node)


def _within(found: Iterable[NodeProto]) -> Iterator[NodeProto]:
    for node in found:
        yield node
        for attribute in node.attribute:
            for graph in graphs(attribute):
                yield from _nodes(graph)


def graphs(attribute: AttributeProto) -> Iterator[GraphProto]:
    """Return the graphs nested in *attribute*."""
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs


def _initializers(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _examine_tensor(tensor: TensorProto, path: Path) -> None:
    if tensor.data_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        return
    where = f"{path}: tensor {tensor.name!r}"
    if tensor.data_type not in _BITS:
        raise ArtifactError(f"{where} must have a dtype of ONNX, got number {tensor.data_type}.")
    dims = list(tensor.dims)
    if any(n < 0 for n in dims):
        raise ArtifactError(f"{where} must have dimensions >= 0, got {dims}.")
    bits = _BITS[tensor.data_type] or 8 * tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    wanted = math.ceil(math.prod(dims) * bits / 8)
    if tensor.data_location == TensorProto.EXTERNAL:
        held = _external(tensor, path, where, wanted)
    elif tensor.HasField("raw_data"):
        held = len(tensor.raw_data)
    else:
        held = _typed_bytes(tensor, bits)
    if held != wanted:
        raise ArtifactError(
            f"{where} declares {dims}, which takes {wanted} bytes, got {held}. "
            "Export or copy the model again."
        )


def _typed_bytes(tensor: TensorProto, bits: int) -> int:
    """Return how many bytes the numbers in the fields by type stand for.

    A field holds one number, half a complex one, or a byte of those that are narrower.
    """
    fields = sum(len(getattr(tensor, name)) for name in _TYPED)
    halves = 2 if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else 1
    return fields * max(8, bits) // 8 // halves


def _external(tensor: TensorProto, path: Path, where: str, wanted: int) -> int:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.parent.resolve()
    place = (folder / location).resolve()
    if not place.is_relative_to(folder) or place == folder:
        raise ArtifactError(
            f"{where}: external data must stay in {folder}, got {location!r}. "
            "Save the model again with its data beside it."
        )
    if not place.is_file():
        raise ArtifactError(
            f"{where}: external data must lie beside the model, got no file {location!r}. "
            "Copy it there."
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", wanted))
    except ValueError:
        raise ArtifactError(
            f"{where}: offset and length of external data must be numbers."
        ) from None
    return length if 0 <= offset <= place.stat().st_size - length else 0


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
