"""A saved model as plain values: what a child process needs to load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scanflow_serve.runtime.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Saved:
    """A model that is not loaded yet.

    Attributes:
        loader: A key of `LOADERS`.
        where: What errors start with, such as ``Model 'digits'``.
        path: The file; for a factory its weights, if it has any.
        factory: ``module:function``.
        folder: Where the factory's module, and those it imports relatively, are sought first.
        code: Folders that are put on the import path, for classes in a trusted pickle.
        trusted: The policy consents to unpickling.
        inputs: As the policy, the registry or sample rows give them; empty if none does.
        named: `inputs` bear names that somebody chose, not only shapes and dtypes.
    """

    loader: str
    where: str
    path: Path | None = None
    factory: str | None = None
    folder: Path | None = None
    code: tuple[Path, ...] = ()
    trusted: bool = False
    inputs: tuple[TensorSpec, ...] = ()
    named: bool = True

    @property
    def file(self) -> Path:
        """Return the path of a model that is a file."""
        if self.path is None:
            raise ValueError(f"{self.where} is no file")
        return self.path

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "loader": self.loader,
            "where": self.where,
            "path": str(self.path) if self.path else None,
            "factory": self.factory,
            "folder": str(self.folder) if self.folder else None,
            "code": [str(path) for path in self.code],
            "trusted": self.trusted,
            "inputs": [spec.to_json() for spec in self.inputs],
            "named": self.named,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Saved:
        """Return the saved model whose JSON form is *value*."""
        return cls(
            **{
                **value,
                "path": Path(value["path"]) if value["path"] else None,
                "folder": Path(value["folder"]) if value["folder"] else None,
                "code": tuple(map(Path, value["code"])),
                "inputs": tuple(map(TensorSpec.from_json, value["inputs"])),
            }
        )


@dataclass(frozen=True, slots=True)
class Loader:
    """One way to load a model.

    Attributes:
        kind: For people.
        load: ``module:function`` that takes a `Saved` and returns a `Trained`.
        packages: Distribution -> the name it is imported by; all must be installed.
        extra: What installs them.
    """

    kind: str
    load: str
    packages: Mapping[str, str]
    extra: str


_HERE = "scanflow_serve.converters.origins"
_TORCH = {"torch": "torch", "onnx": "onnx", "onnxscript": "onnxscript"}
_SKLEARN = {"scikit-learn": "sklearn", "skl2onnx": "skl2onnx", "onnx": "onnx"}
LOADERS = {
    "onnx": Loader("onnx", f"{_HERE}.ready_files:load", {}, "onnxruntime"),
    "openvino": Loader(
        "openvino", f"{_HERE}.ready_files:load", {"openvino": "openvino"}, "openvino"
    ),
    "factory": Loader("torch factory", f"{_HERE}.torch_modules:load_factory", _TORCH, "convert"),
    "module": Loader("torch pickle", f"{_HERE}.torch_modules:load_pickled", _TORCH, "convert"),
    "program": Loader("torch program", f"{_HERE}.torch_programs:load", _TORCH, "convert"),
    "skops": Loader("skops", f"{_HERE}.estimators:load", {**_SKLEARN, "skops": "skops"}, "convert"),
    "joblib": Loader("joblib", f"{_HERE}.estimators:load", _SKLEARN, "convert"),
}
