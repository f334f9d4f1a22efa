from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def sample_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a third party's package installed: a folder on sys.path, as site-packages is."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "plugins" / "sample"))
