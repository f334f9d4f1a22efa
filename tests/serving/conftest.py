"""What tests of the served product share: the contract's files, one cache, the real server."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import live_server
import pytest

CONTRACT = Path(__file__).parents[1] / "contract"
Serve = Callable[..., AbstractContextManager[live_server.Server]]


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """A copy of the contract's folder."""
    return Path(shutil.copytree(CONTRACT, tmp_path / "contract"))


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment by which all servers of a session share what they measure."""
    return {"SCANFLOW_CACHE": str(tmp_path_factory.mktemp("cache"))}


@pytest.fixture(scope="session")
def server(shared_cache: dict[str, str]) -> Serve:
    """`live_server.server` over the session's cache."""

    def serve(
        policy: Path, *arguments: str, environ: dict[str, str] | None = None, **settings: Any
    ) -> AbstractContextManager[live_server.Server]:
        environ = shared_cache | (environ or {})
        return live_server.server(policy, *arguments, environ=environ, **settings)

    return serve
