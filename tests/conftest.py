"""Nothing that a developer has set or cached reaches a test, and no test reaches that."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Give the session, and the processes that it starts, caches and settings of its own."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SCANFLOW_")]:
            patch.delenv(name)
        patch.setenv("SCANFLOW_CACHE", str(home / "cache"))
        patch.setenv("BENTOML_HOME", str(home / "bentoml"))
        patch.setenv("BENTOML_DO_NOT_TRACK", "True")
        yield
