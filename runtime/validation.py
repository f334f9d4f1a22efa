"""Labelled rows of a data file, and the metric of a model's output on them."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import CalibrationError, DataError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.tensors import Array, Tensors


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a data file.

    Attributes:
        inputs: In the policy's order, each of shape (rows, …).
        target: Shape (rows, …); None where the policy names none.
        rows: >= 1.
    """

    inputs: Tensors
    target: Array | None
    rows: int

    def head(self, count: int) -> Rows:
        """Return the first *count* rows, or all if there are fewer."""
        inputs = {name: array[:count] for name, array in self.inputs.items()}
        target = None if self.target is None else self.target[:count]
        return Rows(inputs, target, min(count, self.rows))


def load_rows(data: schema.Data, policy_file: PolicyFile) -> Rows:
    """Return the arrays of an ``.npz``, or the columns of a ``.csv``, that *data* names.

    Without ``input`` all arrays but the target are inputs. CSV columns are int64, else float64,
    else text.

    Raises:
        DataError: The file can't be read, lacks an array, or its arrays differ in rows.
    """
    return rows_of(policy_file.resolve(data.data), data)


def rows_of(path: Path, data: schema.Data) -> Rows:
    """Return what *data* names of the file at *path*, wherever it lies; see `load_rows`.

    Raises:
        DataError: As `load_rows`.
    """
    target = data.target if isinstance(data, schema.Validation) else None
    named = [data.input] if isinstance(data.input, str) else data.input

    def chosen(available: Sequence[str]) -> list[str]:
        names = list(available) if named is None else [*named, *([target] if target else [])]
        for name in [*names, *([target] if target else [])]:
            if name not in available:
                raise DataError(
                    f"{path}: must hold {name!r}, got {list(available)}. "
                    f"Name one of these in the policy, or add it to the file."
                )
        return names

    arrays = _read(path, chosen)
    rows = _common_rows(path, arrays)
    inputs = {name: arrays[name] for name in (named or arrays) if named or name != target}
    if not inputs:
        raise DataError(f"{path}: must hold an array beside the target {target!r}, got none.")
    loaded = Rows(inputs, arrays[target] if target else None, rows)
    return loaded.head(data.samples) if data.samples else loaded


def score(
    metric: schema.Metric, output: Array, target: Array, labels: Sequence[str] | None = None
) -> float:
    """Return the value of *metric*, as scikit-learn defines it.

    Args:
        output: Of shape (rows, classes) when float, the highest wins; or the classes themselves,
            as indices or texts, shape (rows,). For ``r2`` the predicted values.
        target: Shape (rows,), class indices or texts; for ``r2`` values shaped as *output*.
        labels: Class names in output order; needed where only one of both is text, or where
            classes are numbers that do not count from 0.

    Raises:
        CalibrationError: *output* and *target* can't be compared.

    Source:
        scikit-learn 1.x: ``accuracy_score``, ``balanced_accuracy_score``, ``f1_score`` with
        ``average="macro"``, ``r2_score``.
    """
    if len(output) != len(target):
        raise CalibrationError(
            f"{metric}: output and target must have as many rows, got {len(output)} and "
            f"{len(target)}. Check the `validation` data."
        )
    if metric == "r2":
        return _r2(output, target)
    return _CLASS_METRICS[metric](*_classes(metric, output, target, labels))


def _read(path: Path, chosen: Callable[[Sequence[str]], list[str]]) -> Tensors:
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if (reader := readers.get(path.suffix.lower())) is None:
        raise DataError(
            f"{path}: a data file must end with .npz or .csv, got {path.suffix!r}. Convert it."
        )
    try:
        return reader(path, chosen)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{path}: must be readable as {path.suffix[1:]}, got: {reason}. Write it with "
            f"numpy.savez (no Python objects), or as CSV in UTF-8 with a header."
        ) from error


def _read_npz(path: Path, chosen: Callable[[Sequence[str]], list[str]]) -> Tensors:
    with path.open("rb") as stream:  # ours: numpy leaves a broken file open
        file = np.load(stream, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("one array without a name")
        return {name: file[name] for name in chosen(file.files)}


def _read_csv(path: Path, chosen: Callable[[Sequence[str]], list[str]]) -> Tensors:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, [])
        if len(set(header)) != len(header):
            raise ValueError(f"columns with the same name: {header}")
        records = [record for record in reader if record]
    for number, record in enumerate(records, start=1):
        if len(record) != len(header):
            raise ValueError(f"{len(record)} cells in row {number} under {len(header)} columns")
    columns = dict(zip(header, zip(*records, strict=True), strict=True)) if records else {}
    return {name: _typed(columns.get(name, ())) for name in chosen(header)}


def _typed(cells: Sequence[str]) -> Array:
    for dtype in (np.int64, np.float64):
        try:
            return np.array(cells, dtype=np.str_).astype(dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(cells, dtype=np.str_).astype(object)


def _common_rows(path: Path, arrays: Tensors) -> int:
    shapes = {name: list(array.shape) for name, array in arrays.items()}
    counts = {shape[0] if shape else 0 for shape in shapes.values()}
    if len(counts) != 1 or counts == {0}:
        raise DataError(
            f"{path}: arrays must have the same number of rows, at least one, got shapes {shapes}. "
            f"Leave out what is not per row by naming the arrays under `input:`."
        )
    return counts.pop()


def _classes(
    metric: str, output: Array, target: Array, labels: Sequence[str] | None
) -> tuple[Array, Array]:
    """Return predicted and true classes, both indices or both texts."""
    if output.dtype.kind == "f":
        if output.ndim != 2 or output.shape[1] < 2:
            raise CalibrationError(
                f"{metric}: a float output must have shape (rows, classes), got "
                f"{list(output.shape)}. Name the right one with the model's `output:`, or use "
                f"`metric: r2`."
            )
        # A row with NaN is of no class, so it counts as wrong.
        predicted = np.where(np.isnan(output).any(axis=1), -1, output.argmax(axis=1))
        target = _numbered(target, labels)
    else:
        predicted = output.reshape(len(output), -1)[:, 0]
    truth = target.reshape(len(target), -1)
    if truth.shape[1] != 1:
        raise CalibrationError(
            f"{metric}: the target must be one class a row, got shape {list(target.shape)}. "
            f"Store class indices or texts."
        )
    return _comparable(metric, predicted, truth[:, 0], labels)


def _numbered(target: Array, labels: Sequence[str] | None) -> Array:
    """Return *target* as texts if it holds numbers that are names of classes, as in 1, 2, 3."""
    if labels is None or target.dtype.kind not in "iu":
        return target
    texts: Array = target.astype(str)
    return texts if set(np.unique(texts)) <= set(labels) else target


def _comparable(
    metric: str, predicted: Array, truth: Array, labels: Sequence[str] | None
) -> tuple[Array, Array]:
    texts = [array.dtype.kind in "OUS" for array in (predicted, truth)]
    if all(texts):
        return predicted.astype(str), truth.astype(str)
    if not any(texts):
        return predicted, truth
    if labels is None:
        raise CalibrationError(
            f"{metric}: output and target must both be class indices, or both texts, got "
            f"{predicted.dtype.name} and {truth.dtype.name}. Give the models' `labels:`."
        )
    index = {text: number for number, text in enumerate(labels)}
    if texts[0]:  # a text that is no label is wrong, not an error: the model said it
        return np.array([index.get(str(text), -1) for text in predicted]), truth
    if unknown := sorted({str(text) for text in truth} - set(index)):
        raise CalibrationError(
            f"{metric}: every target text must be one of the model's labels {list(labels)}, got "
            f"{unknown[:5]}. Correct `labels:`, or the data."
        )
    return predicted, np.array([index[str(text)] for text in truth])


def _accuracy(predicted: Array, truth: Array) -> float:
    return float((predicted == truth).mean())


def _balanced_accuracy(predicted: Array, truth: Array) -> float:
    """Mean recall over the classes that occur in the target."""
    hits = predicted == truth
    return float(np.mean([hits[truth == name].mean() for name in np.unique(truth)]))


def _f1_macro(predicted: Array, truth: Array) -> float:
    """Mean F1 over the classes that occur in either; 0 for one never hit."""
    hits = predicted == truth
    values = []
    for name in np.union1d(predicted, truth):
        claimed, true = predicted == name, truth == name
        values.append(2 * (hits & true).sum() / (claimed.sum() + true.sum()))
    return float(np.mean(values))


def _r2(output: Array, target: Array) -> float:
    """Mean over the target's columns; 1 (0) for a constant column that is met (missed)."""
    rows = len(target)
    numbers = output.dtype.kind in "fiu" and target.dtype.kind in "fiu"
    if not numbers or output.size != target.size:
        raise CalibrationError(
            f"r2: output and target must be numbers of one shape, got {output.dtype.name}"
            f"{list(output.shape)} and {target.dtype.name}{list(target.shape)}. "
            f"Name the right `output:` and `target:`."
        )
    truth = target.astype(np.float64).reshape(rows, -1)
    residual = ((output.astype(np.float64).reshape(rows, -1) - truth) ** 2).sum(axis=0)
    total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
    constant = total == 0
    values = 1 - residual / np.where(constant, 1, total)
    return float(np.where(constant, (residual == 0).astype(float), values).mean())


_CLASS_METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1_macro": _f1_macro,
}
