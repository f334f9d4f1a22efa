"""The child process of `converters.runner`: one step, under its bounds.

``python -m scanflow_serve.converters.worker``, the job's JSON on stdin.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from scanflow_serve.converters.conversion import Context, Convert, Options
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.process import bound_memory, die_with_parent

RESULT = "result.json"


def convert(job: Mapping[str, Any]) -> dict[str, str]:
    """Return the converted file, or the error, of *job*."""
    module, _, name = job["function"].partition(":")
    function = cast(Convert, getattr(importlib.import_module(module), name))
    context = Context(
        rows=_rows(job["rows"]),
        features=frozenset(job["features"]),
        options=Options.from_json(job["options"]),
    )
    try:
        return {"path": str(function(Path(job["source"]), Path(job["folder"]), context))}
    except ArtifactError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"memory": ""}


def main() -> None:
    """Run the job on stdin; leave the result beside the rows."""
    die_with_parent()
    os.dup2(2, 1)  # what libraries print belongs to the log of a failure
    warnings.simplefilter("ignore")  # the libraries' own; nobody reads them here
    job = json.load(sys.stdin)
    bound_memory(job["memory_mb"])
    partial = Path(job["result"]).with_suffix(".partial")
    partial.write_text(json.dumps(convert(job)))
    partial.replace(job["result"])


def _rows(path: str | None) -> dict[str, Any] | None:
    if path is None:
        return None
    with np.load(path, allow_pickle=False) as file:
        return {name[1:]: file[name] for name in file.files}


if __name__ == "__main__":
    main()
