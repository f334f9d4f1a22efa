"""The quickstart: four digit classifiers, their data and a policy, to copy and make one's own.

`train` made the models and the data that lie beside this module; `template` holds the rest.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from scanflow_serve.policies.errors import UsageError

SHIPPED = Path(__file__).parent
TEMPLATE = SHIPPED / "template"  # policy.yaml, client.py, README.md
ASSETS = ("models", "data", "images")  # made by `train`
POLICY = "policy.yaml"


def create(folder: Path) -> None:
    """Write the quickstart into *folder*, which the caller owns from then on.

    Raises:
        UsageError: *folder* is a file, is not empty, or can't be written.
    """
    _require_new(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(TEMPLATE, folder, ignore=_PYCACHE, dirs_exist_ok=True)
        for asset in ASSETS:
            shutil.copytree(SHIPPED / asset, folder / asset)
    except OSError as error:
        raise UsageError(
            f"{folder}: must be writable, got {error.strerror or error}. Name another folder."
        ) from error


_PYCACHE = shutil.ignore_patterns("__pycache__")


def _require_new(folder: Path) -> None:
    if folder.is_dir():
        present = sum(1 for _ in folder.iterdir())
        if not present:
            return
        cure = "Name another folder"
        if (folder / POLICY).is_file():
            cure += f", or serve this one: scanflow-serve run {folder / POLICY}"
        raise UsageError(f"{folder}: must be a new or empty folder, got {present} entries. {cure}.")
    if folder.exists():
        raise UsageError(f"{folder}: must be a folder, got a file. Name another one.")
