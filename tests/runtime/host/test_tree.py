from __future__ import annotations

import os
from pathlib import Path

import pytest

from scanflow_serve.runtime.host.tree import PAGE, Tree


def test_kernel_is_never_asked_for_more_than_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sysctl file allocates what is asked for, and a megabyte is not always to be had."""
    (tmp_path / "file").write_bytes(b"x" * (3 * PAGE + 7))
    asked: list[int] = []
    read = os.read

    def spy(descriptor: int, count: int) -> bytes:
        asked.append(count)
        return read(descriptor, count)

    monkeypatch.setattr(os, "read", spy)
    assert Tree(str(tmp_path)).read("/file") == b"x" * (3 * PAGE + 7)
    assert max(asked) <= PAGE


def test_no_more_is_read_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * (2 * PAGE))
    assert Tree(str(tmp_path)).read("/file", limit=PAGE + 1) == b"x" * (PAGE + 1)
