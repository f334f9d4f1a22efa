from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def sample_package(monkeypatch: pytest.MonkeyPatch, plugins: Path) -> None:
    """Have a third party's package installed, beside ours."""
    monkeypatch.syspath_prepend(str(plugins))
