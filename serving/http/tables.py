"""Rows and columns (CSV, data frames) to the model's inputs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.tensors import Array, Signature, TensorSpec
from scanflow_serve.serving.http.arrays import index_path, leaves, readable
from scanflow_serve.serving.http.cells import ABSENT, Cells
from scanflow_serve.serving.http.exchange import shown
from scanflow_serve.serving.http.inputs import Batch, batch, bound_rows, unknown_names


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as they came.

    Attributes:
        columns: Names, None where there were none.
        where: What errors call it.
    """

    rows: list[list[Any]]
    columns: list[str] | None
    where: str


def batch_of_table(
    table: Table, signature: Signature, max_rows: int, cells: Cells | None = None
) -> Batch:
    """Return the batch of a table.

    Several inputs of one column each take the columns of their names (by position where columns
    have no names); a single input takes all columns in order.

    Raises:
        RequestError: 400, columns or cells that don't fit; 413, too many rows.
    """
    if not table.rows:
        raise RequestError(400, f"{table.where} must have at least one row, got none.")
    bound_rows(len(table.rows), max_rows, table.where)
    width = len(table.columns if table.columns is not None else table.rows[0])
    for index, row in enumerate(table.rows):
        if len(row) != width:
            raise RequestError(
                400, f"{table.where}[{index}] must have {width} cells, got {len(row)}."
            )
    if cells is not None and table.columns is not None:
        table = _arranged(table, signature, cells)
        width = len(table.rows[0])
    if len(signature.inputs) == 1:
        arrays = {signature.inputs[0].name: _stacked(table, signature.inputs[0], width, cells)}
    else:
        arrays = _by_column(table, signature, width, cells)
    return batch(arrays, signature, max_rows, table.where, cells)


def _arranged(table: Table, signature: Signature, cells: Cells) -> Table:
    """Return *table* with the columns that are wanted, where it is known which they are."""
    first = signature.inputs[0].name
    names = [spec.name for spec in signature.inputs]
    wanted = list(cells.columns) if len(names) == 1 else names
    if not wanted or table.columns is None or not set(wanted) & set(table.columns):
        return table
    if len(names) > 1:  # each is found by its name: in which order they come is nobody's concern
        given = table.columns
        wanted = [name for name in given if name in names] + [n for n in names if n not in given]
    return Table(cells.arranged(table.rows, table.columns, wanted, first), wanted, table.where)


def _stacked(table: Table, spec: TensorSpec, width: int, cells: Cells | None) -> Array:
    """Return all cells as one input: features in the order of the columns."""
    values = list(chain.from_iterable(table.rows))
    if cells is not None:
        values = readable(values, spec, cells)
    rows = len(table.rows)
    flat = leaves(values, spec.dtype, (rows, width), table.where)
    row_shape = spec.shape[1:]
    if None in row_shape:
        return flat.reshape(rows, width)
    wanted = math.prod(n or 1 for n in row_shape)
    if wanted != width:
        raise RequestError(
            400,
            f"{table.where} must have {wanted} columns, the values of input {spec.name!r},"
            f" got {width}.",
        )
    return flat.reshape(rows, *(n or 1 for n in row_shape))


def _by_column(
    table: Table, signature: Signature, width: int, cells: Cells | None
) -> dict[str, Array]:
    names = [spec.name for spec in signature.inputs]
    for spec in signature.inputs:
        if math.prod(n or 0 for n in spec.shape[1:]) != 1:
            raise RequestError(
                400,
                f"{table.where}: every input of a table must be one column, input {spec.name!r}"
                " is not. Send inputs by name.",
            )
    columns = table.columns if table.columns is not None else names[:width]
    if sorted(columns) != sorted(names) or width != len(names):
        raise unknown_names(columns, names, f"{table.where}'s columns")
    arrays: dict[str, Array] = {}
    for spec in signature.inputs:
        at = columns.index(spec.name)
        values = [row[at] for row in table.rows]
        if cells is not None:
            values = readable(values, spec, cells)
        where = f"{table.where}.{spec.name}"
        arrays[spec.name] = leaves(values, spec.dtype, (len(values),), where).reshape(
            len(values), *([1] * (len(spec.shape) - 1))
        )
    return arrays


def csv_table(
    body: bytes, signature: Signature, *, header: bool | None, lenient: bool = False
) -> Table:
    """Return a CSV body's cells, read as the inputs' dtypes.

    Args:
        header: Whether the first row names the columns; None: it does if it can't be values.
        lenient: Leave a cell that is no value as text.

    Raises:
        RequestError: 400, not UTF-8, not CSV, or a cell that is no value of its input's dtype.
    """
    try:
        text = body.decode("utf-8-sig")
        lines = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(400, f"body must be CSV in UTF-8: {error}.") from None
    if not lines:
        raise RequestError(400, "body must be CSV with at least one row, got nothing.")
    if header is None:
        header = _is_header(lines[0], signature)
    columns = [cell.strip() for cell in lines.pop(0)] if header else None
    order = columns if len(signature.inputs) > 1 else None
    readers = _readers(signature, order, max((len(row) for row in lines), default=0))
    rows = [
        [_cell(readers[j], text, (i, j), lenient) for j, text in enumerate(row)]
        for i, row in enumerate(lines)
    ]
    return Table(rows, columns, "csv")


def _is_header(row: list[str], signature: Signature) -> bool:
    names = {spec.name for spec in signature.inputs}
    if names == {cell.strip() for cell in row}:
        return True
    if any(spec.dtype == "str" for spec in signature.inputs):
        return False  # text can't be told from a name
    return not all(_is_value(cell) for cell in row)


def _is_value(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip().lower() in ("true", "false", "")
    return True


Reader = tuple[Callable[[str], Any], str]


def _readers(signature: Signature, columns: Sequence[str] | None, width: int) -> list[Reader]:
    specs = {spec.name: spec.dtype for spec in signature.inputs}
    if len(specs) == 1:
        return [_reader(next(iter(specs.values())))] * width
    order = list(columns) if columns is not None else list(specs)
    order += [""] * (width - len(order))
    return [_reader(specs.get(name, "str")) for name in order]


def _reader(dtype: str) -> Reader:
    if dtype == "str":
        return str, "text"
    if dtype == "bool":
        return _boolean, "true or false"
    if dtype.startswith("float"):
        return _finite, "a number"
    return int, "a whole number"


def _boolean(text: str) -> bool:
    return {"true": True, "false": False, "1": True, "0": False}[text.strip().lower()]


def _finite(text: str) -> float:
    """Return the number; ``nan`` is one, as data frames write a missing value."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


def _cell(reader: Reader, text: str, place: tuple[int, int], lenient: bool) -> Any:
    read, kind = reader
    try:
        return read(text)
    except (ValueError, KeyError):
        if lenient:
            return text
        path = f"[{place[0]}][{place[1]}]"
        raise RequestError(400, f"csv{path} must be {kind}, got {shown(text)}.") from None


def split_table(value: Any) -> Table:
    """Return the table of MLflow's ``dataframe_split``: columns and rows apart.

    Raises:
        RequestError: 400, not such an object.
    """
    where = "dataframe_split"
    if type(value) is not dict or value.keys() - {"columns", "data", "index"}:
        raise RequestError(
            400, f"{where} must be an object of columns, data and index, got {shown(value)}."
        )
    rows = value.get("data")
    if type(rows) is not list or any(type(row) is not list for row in rows):
        raise RequestError(400, f"{where}.data must be a list of rows, got {shown(rows)}.")
    columns = value.get("columns")
    if columns is None:
        return Table(rows, None, f"{where}.data")
    if type(columns) is not list:
        raise RequestError(400, f"{where}.columns must be a list, got {shown(columns)}.")
    names = [str(name) for name in columns]
    if len(set(names)) != len(names):
        raise RequestError(400, f"{where}.columns must be unique, got {shown(names)}.")
    return Table(rows, names, f"{where}.data")


def records_table(value: Any, *, lenient: bool = False) -> Table:
    """Return the table of MLflow's ``dataframe_records``: one object a row.

    Args:
        lenient: Rows may lack columns that others have.

    Raises:
        RequestError: 400, not a list of objects with the same keys.
    """
    where = "dataframe_records"
    if type(value) is not list or not value or any(type(row) is not dict for row in value):
        raise RequestError(
            400, f"{where} must be a list of at least one object, got {shown(value)}."
        )
    columns = list(value[0])
    if lenient:
        columns = list(dict.fromkeys(chain.from_iterable(value)))
        rows = [[row.get(name, ABSENT) for name in columns] for row in value]
        return Table(rows, columns, where)
    for index, row in enumerate(value):
        if row.keys() != value[0].keys():
            place = where + index_path(index, (len(value),))
            raise unknown_names(row, columns, place)
    return Table([[row[name] for name in columns] for row in value], columns, where)
