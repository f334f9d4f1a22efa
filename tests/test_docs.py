"""The docs name every policy key, route, command and option, and none that does not exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import click
import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.policies.schema import (
    AnyOf,
    CheckerStep,
    ModelStep,
    ParallelStep,
    Policy,
    PythonStep,
    ScriptStep,
    Sequence,
    WorkflowStep,
)
from scanflow_serve.policies.vocabulary import CHECK, VARIABLES, MapType, RecordType
from scanflow_serve.serving import quickstart
from scanflow_serve.serving.cli import COMMANDS, cli
from scanflow_serve.serving.http.routes import ROUTES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCS = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = {"README": README, **DOCS}
# Sections that are told apart by which of them is there.
ALTERNATIVES = {
    AnyOf,
    Sequence,
    ModelStep,
    PythonStep,
    WorkflowStep,
    ParallelStep,
    ScriptStep,
    CheckerStep,
}


def blocks(language: str) -> list[str]:
    """Return the fenced blocks in *language* of the README and the docs."""
    return [
        body for page in PAGES.values() for kind, body in BLOCK.findall(page) if kind == language
    ]


def sections(annotation: Any, path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield the sections that a key of type *annotation* holds, with the path to each."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield path, annotation
        return
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is list:
        yield from sections(arguments[0], f"{path}[]")
    elif origin is dict:
        inner = "TYPE" if path == "checks[]" else "NAME"
        yield from sections(arguments[1], f"{path}.{inner}")
    elif origin is Annotated:
        yield from sections(arguments[0], path)
    elif origin in (Union, UnionType):
        for argument in arguments:
            yield from sections(argument, path)


def policy_keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key's dotted path and its default, as the docs write it."""
    for name, field in section.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = [] if section is ParallelStep else list(sections(field.annotation, path))
        default = "required" if field.is_required() else shown(field.default, hide=bool(inner))
        if section in ALTERNATIVES and default == "required":
            default = "one of"
        yield path, default
        for inner_path, inner_section in inner:
            yield from policy_keys(inner_section, f"{inner_path}.")


def shown(default: Any, *, hide: bool) -> str:
    """Return a default as the docs write it, in YAML; sections and absence are empty."""
    if hide or default in (None, "") or default is PydanticUndefined:
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(default)}]`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def members(kind: RecordType, prefix: str) -> Iterator[str]:
    """Yield the dotted paths of what a condition may name below *prefix*."""
    for name, member in kind.members.items():
        if isinstance(member, RecordType):
            yield from members(member, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}" + (".NAME" if isinstance(member, MapType) else "")


def table(page: str, columns: int) -> list[tuple[str, ...]]:
    """Return the first cells of each row of *page*'s tables, without backticks around the first."""
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| `")]
    return [tuple(cell.strip() for cell in row[:columns]) for row in rows]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, such as ``keys new``."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)  # type: ignore[attr-defined]
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", sub) for inner, sub in command.commands.items())
        else:
            yield name, command


def options(command: click.Command) -> set[str]:
    return {name for param in command.params for name in param.opts if name.startswith("--")}


ALL = {**dict(commands())}


def test_policy_page_states_every_key_and_its_default() -> None:
    documented = dict(table(DOCS["policy"].split("## What conditions see")[0], 2))
    assert {f"`{key}`": default for key, default in policy_keys(Policy)} == documented


def test_policy_page_states_what_conditions_see() -> None:
    stated = {row[0] for row in table(DOCS["policy"].split("## What conditions see")[1], 1)}
    known = {
        path
        for name, kind in VARIABLES.items()
        for path in (
            members(kind, name)
            if isinstance(kind, RecordType)
            else members(CHECK, 'checks["NAME"]')
        )
    }
    assert stated == {f"`{path}`" for path in known}


def test_http_page_states_every_route_and_its_scope() -> None:
    documented = {cells[0]: cells[1] for cells in table(DOCS["http"], 2)}
    assert {f"`{r.method} {r.template}`": r.access for r in ROUTES} == documented


@pytest.mark.parametrize("header", ["Scanflow-Deadline-Ms", "Scanflow-Prefer", "Retry-After"])
def test_http_page_states_headers(header: str) -> None:
    assert header in DOCS["http"]


@pytest.mark.parametrize("name", ALL)
def test_cli_page_states_every_command_and_option(name: str) -> None:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", DOCS["cli"], re.M | re.S)
    assert section, f"docs/cli.md has no section '## {name}'"
    stated = set(re.findall(r"`(--[a-z-]+)", section[1]))
    assert stated == options(ALL[name]) - {"--debug", "--help"}


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_blocks_exist(page: str) -> None:
    lines = [
        line
        for _, body in BLOCK.findall(PAGES[page])
        for line in body.splitlines()
        if line.startswith("scanflow-serve ")
    ]
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        name = next((" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in ALL), None)
        assert name, line
        assert {word for word in words if word.startswith("--")} <= options(ALL[name]), line


def test_policies_in_the_docs_load(tmp_path: Path) -> None:
    quickstart.create(tmp_path)
    found = [text for text in blocks("yaml") if text.startswith("apiVersion")]
    assert found
    for text in found:
        (tmp_path / "documented.yaml").write_text(text)
        load_policy(tmp_path / "documented.yaml")


def test_policies_in_the_docs_are_really_checked(tmp_path: Path) -> None:
    text = next(text for text in blocks("yaml") if text.startswith("apiVersion"))
    (tmp_path / "documented.yaml").write_text(text)
    with pytest.raises(PolicyError, match=r"models/digits"):
        load_policy(tmp_path / "documented.yaml")


def test_make_targets_in_the_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {t for page in PAGES.values() for t in re.findall(r"(?:^|`)make ([a-z]+)", page, re.M)}
    assert {"serve", "test", "check", "bench"} <= named <= targets


def test_wheel_that_the_readme_installs_is_the_one_that_is_built() -> None:
    (named,) = re.findall(r"^pip install (\S+\.whl)", README, re.M)
    assert named == f"dist/scanflow_serve-{version('scanflow-serve')}-py3-none-any.whl"


def test_first_screen_tells_what_how_and_whether() -> None:
    screen = "\n".join(README.splitlines()[:40])
    assert "make serve" in screen
    assert "make test" in screen
    assert re.search(r"^curl .*digits/images/7\.png .*/predict$", screen, re.M)


def test_links_in_the_docs_lead_somewhere() -> None:
    for name, page in PAGES.items():
        folder = ROOT if name == "README" else ROOT / "docs"
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page):
            assert (folder / link).exists(), f"{name}: {link}"
