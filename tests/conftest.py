"""Nothing that a developer has set or cached reaches a test, and no test reaches that.

Each worker of ``pytest -n`` is a session of its own: its folders, caches and servers are too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from registry_worlds import Mlflow


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with slow files where workers share them, so that none is left with one at the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


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


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """A real MLflow server: starting one takes 10 s. Each test has registered models of its own."""
    from registry_worlds import mlflow_server

    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a third party's checks installed, for ``sys.path`` or ``PYTHONPATH``."""
    from plugin_worlds import SAMPLE, install

    return install(SAMPLE, tmp_path_factory.mktemp("plugins"))
