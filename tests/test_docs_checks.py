"""The check that docs/checks.md shows is packaged, installed and run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from checks_worlds import World, inverted, states, stream
from plugin_worlds import install

PAGE = (Path(__file__).parents[1] / "docs" / "checks.md").read_text()
SECTION = PAGE.partition("## A check of your own")[2]
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "my-package"
version = "1.0"
[tool.hatch.build.targets.wheel]
only-include = ["my_package.py"]
"""


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)
    return str(found)


def test_check_on_the_page_flags_rows_and_alarms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied into a package with its entry point it is found, calibrated, and bet on."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "my_package.py").write_text(block("python"))
    (package / "pyproject.toml").write_text(PROJECT + block("toml"))
    monkeypatch.syspath_prepend(str(install(package, tmp_path / "site")))

    policy = re.findall(r"says `(- .*?)`", SECTION)[0].replace("rows.npz", "digits-train.npz")
    world = World(f"  {policy}", tmp_path / "state")
    host = world.host()
    world.feed(host, stream(1, 300))
    assert states(host) == ["ok"]
    world.feed(host, inverted(stream(2, 60)))
    assert states(host) == ["alarm"]
    assert host.watches[0].flagged.after()


def test_check_on_the_page_is_short() -> None:
    lines = [line for line in block("python").splitlines() if line.strip()]
    assert len(lines) <= 10
