"""The child process that loads a model: exports it, or runs it as it is."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any, Protocol

from scanflow_serve.converters.origins.in_child import RESULT, begin, read_tensors, write_tensors
from scanflow_serve.converters.origins.origin import Exported
from scanflow_serve.converters.origins.saved import LOADERS, Saved
from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.runtime.tensors import Tensors


class Trained(Protocol):
    """A model in memory."""

    def export(self, folder: Path) -> Exported:
        """Return the model as a file in *folder*."""
        ...

    def run(self, inputs: Tensors) -> Tensors:
        """Return the outputs under the export's names."""
        ...


def main() -> None:
    """Do the job on stdin; leave the outcome as ``result.json`` in its folder."""
    job = begin()
    folder = Path(job["folder"])
    try:
        result = _act(job["action"], folder, Saved.from_json(job["saved"]))
    except ScanflowError as error:
        result = {"error": str(error)}
    (folder / RESULT).write_text(json.dumps(result))


def _act(action: str, folder: Path, saved: Saved) -> dict[str, Any]:
    sys.path += [str(path) for path in saved.code]
    module, _, function = LOADERS[saved.loader].load.partition(":")
    trained: Trained = getattr(importlib.import_module(module), function)(saved)
    if action == "run":
        write_tensors(folder / "outputs.npz", trained.run(read_tensors(folder / "inputs.npz")))
        return {}
    exported = trained.export(folder)
    return {"path": str(exported.path), "labels": exported.labels}


if __name__ == "__main__":
    main()
