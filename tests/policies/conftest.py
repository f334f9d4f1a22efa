"""A folder with the contract's models, data and steps, and policies written into it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.policies.loader import PolicyFile, load_policy

CONTRACT = Path(__file__).parents[1] / "contract"

Faults = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A policy's folder: models, data and steps as in the contract."""
    shutil.copytree(CONTRACT, tmp_path / "line")
    return tmp_path / "line"


@pytest.fixture
def load(folder: Path) -> Callable[..., PolicyFile]:
    def load(text: str, environ: Mapping[str, str] | None = None) -> PolicyFile:
        path = folder / "pi4.yaml"
        path.write_text(text, encoding="utf-8")
        return load_policy(path, environ=environ or {})

    return load


@pytest.fixture
def faults(load: Callable[..., PolicyFile], folder: Path) -> Faults:
    """Load a text that has faults; return them as a person reads them, without the folder."""

    def faults(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(PolicyError, match=r"pi4\.yaml:\d+:\d+: ") as caught:
            load(text, environ)
        return [str(fault).removeprefix(f"{folder}/") for fault in caught.value.faults]

    return faults


@pytest.fixture
def quickstart() -> str:
    return (CONTRACT / "quickstart.yaml").read_text(encoding="utf-8")


@pytest.fixture
def targets() -> str:
    return (CONTRACT / "targets.yaml").read_text(encoding="utf-8")
