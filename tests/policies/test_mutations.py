"""Whatever is done to a policy, loading gives a policy, or faults that lie in the file."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scanflow_serve.policies.errors import PolicyError
from scanflow_serve.policies.loader import load_policy

CONTRACT = Path(__file__).parents[1] / "contract"
DOCUMENTS = [
    yaml.safe_load((CONTRACT / f"{name}.yaml").read_text())
    for name in ("quickstart", "targets", "full")
]
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["digits-mlp", "A", "host.kind ==", "${", "${NO}", "../x", "a:b", "\x00", "/"]),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(0, 3), max_size=2),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document but the root's."""
    children: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    found = [path] if path else []
    for key, child in children:
        found += places(child, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> str:
    document = copy.deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(places(document)))
        owner = document
        for key in parents:
            owner = owner[key]
        change = draw(st.sampled_from(["drop", "junk", "add"]))
        if change == "drop":
            del owner[last]
        elif change == "junk":
            owner[last] = draw(JUNK)
        elif isinstance(owner, dict):
            owner[draw(st.text(min_size=1, max_size=8))] = draw(JUNK)
        else:
            owner.append(draw(JUNK))
    return yaml.safe_dump(document, allow_unicode=draw(st.booleans()), sort_keys=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("mutated") / "line"
    shutil.copytree(CONTRACT, home)
    return home


def load_or_find_faults_inside(text: str, home: Path) -> None:
    error: PolicyError | None = None
    try:
        load_policy(home / "mutated.yaml", environ={}, text=text)
    except PolicyError as caught:
        error = caught
    if error is None:
        return
    assert error.faults
    lines = text.splitlines() or [""]
    for fault in error.faults:
        assert 1 <= fault.line <= len(lines) + 1, str(fault)
        line = lines[fault.line - 1] if fault.line <= len(lines) else ""
        assert 1 <= fault.column <= len(line) + 1, str(fault)
        assert fault.rule


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=mutated())
def test_mutated_policy_loads_or_has_faults_inside_the_file(text: str, home: Path) -> None:
    load_or_find_faults_inside(text, home)


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,? \n\t${}<~0.1", max_size=60))
def test_any_text_loads_or_has_faults_inside_the_file(text: str, home: Path) -> None:
    load_or_find_faults_inside(text, home)
