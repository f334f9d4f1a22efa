"""A logged MLflow model: a folder with a file ``MLmodel``, which says what is in it.

Read without mlflow: what a device downloaded once is served without it, too.
Source: https://mlflow.org/docs/latest/ml/model/ ("MLmodel file format", signatures).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scanflow_serve.converters.mlmodel import OWN_FLAVOUR
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

FLAVOURS = {  # in this order
    "onnx": "data",
    "pytorch": "model_data",
    "sklearn": "pickled_model",
    OWN_FLAVOUR: "data",  # OpenVINO IR that was published from here
}
FILES = ("model.onnx", "model.pt2", "model.pth", "model.pt")  # where the flavour names a folder
COLUMNS = {
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "boolean": "bool",
    "string": "str",
}


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """What an MLmodel file says.

    Attributes:
        path: The model file.
        code: Folders of Python modules that were logged with it.
        inputs: Of its signature; empty if it has none that is usable.
    """

    folder: Path
    flavour: str
    path: Path
    code: tuple[Path, ...]
    inputs: tuple[TensorSpec, ...]


def read_model_folder(where: str, folder: Path) -> LoggedModel:
    """Return what the MLflow model in *folder* is.

    Raises:
        ArtifactError: It has no readable MLmodel file, or no flavour that can be converted.
    """
    try:
        described = yaml.safe_load((folder / "MLmodel").read_text())
        flavours = {str(name): dict(settings) for name, settings in described["flavors"].items()}
        inputs = tuple(_inputs(described.get("signature")))
    except FileNotFoundError:
        raise ArtifactError(
            f"{where}: the folder {folder} must be an MLflow model, got no file MLmodel in it."
        ) from None
    except (OSError, yaml.YAMLError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{where}: {folder / 'MLmodel'} must be an MLmodel file, got one that can't be read: "
            f"{type(error).__name__}: {error}"
        ) from error
    flavour = next((name for name in FLAVOURS if name in flavours), None)
    if flavour is None:
        raise ArtifactError(
            f"{where}: the MLflow model must have a flavour of {', '.join(FLAVOURS)}, got "
            f"{', '.join(sorted(flavours))}. Log it with one of these."
        )
    settings = flavours[flavour]
    code = settings.get("code")
    return LoggedModel(
        folder=folder,
        flavour=flavour,
        path=_model_file(where, folder, settings.get(FLAVOURS[flavour])),
        code=(_within(where, folder, code),) if code else (),
        inputs=inputs,
    )


def _model_file(where: str, folder: Path, relative: Any) -> Path:
    path = _within(where, folder, relative or "")
    if path.is_dir():
        found = [path / name for name in FILES if (path / name).is_file()]
        path = found[0] if found else path
    if not path.is_file():
        raise ArtifactError(f"{where}: the MLflow model's file must be there, got none at {path}.")
    return path


def _within(where: str, folder: Path, relative: Any) -> Path:
    path = (folder / str(relative)).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArtifactError(
            f"{where}: MLmodel must name files inside of its folder, got {relative!r}."
        )
    return path


def _inputs(signature: Any) -> Iterator[TensorSpec]:
    """Yield the inputs of a signature: tensors, or columns of one row each."""
    text = signature.get("inputs") if isinstance(signature, Mapping) else None
    for i, entry in enumerate(json.loads(text) if text else []):
        name = str(entry.get("name", "input" if i == 0 else f"input_{i}"))
        if entry.get("type") == "tensor":
            spec = entry["tensor-spec"]
            shape = tuple(None if n < 0 else int(n) for n in spec["shape"])
            dtype = "str" if spec["dtype"] in ("str", "object") else spec["dtype"]
            yield TensorSpec(name, dtype, (None, *shape[1:]))
        elif entry.get("type") in COLUMNS:
            yield TensorSpec(name, COLUMNS[entry["type"]], (None, 1))
