"""The ready policies load beside the files that `scanflow-serve quickstart` writes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scanflow_serve.policies.conditions import compile_condition
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.policies.vocabulary import TARGET_VARIABLES

TARGETS = Path(__file__).parents[2] / "policies" / "targets"
CONTRACT = Path(__file__).parents[1] / "contract"
PI = {"memory_mb": 4000, "cpu": {"cores": 4, "features": ["neon"]}, "on_battery": False}
SMALL_PI = PI | {"memory_mb": 480}
NODE = PI | {"cpu": {"cores": 8, "features": ["avx512_vnni"]}}
LAPTOP = NODE | {"on_battery": True}


def chosen(name: str, host: dict[str, object]) -> object:
    policy = load_policy(TARGETS / f"{name}.yaml", environ={}).policy
    for target in policy.targets:
        if target.when is None or compile_condition(
            target.when, TARGET_VARIABLES, frozenset()
        ).holds({"host": host}):
            return target.run
    return None


@pytest.fixture(autouse=True)
def beside_the_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("models", "data"):
        shutil.copytree(CONTRACT / folder, tmp_path / folder)
    for path in TARGETS.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(f"{__name__}.TARGETS", tmp_path)


def test_there_is_one_for_each_kind_of_target(tmp_path: Path) -> None:
    assert sorted(p.stem for p in tmp_path.glob("*.yaml")) == ["cluster", "desktop", "raspberry-pi"]


@pytest.mark.parametrize("name", ["cluster", "desktop", "raspberry-pi"])
def test_ready_policy_loads_clean(name: str) -> None:
    loaded = load_policy(TARGETS / f"{name}.yaml", environ={"PORT": "8080"})
    assert loaded.policy.serve.port == 8080
    assert loaded.policy.description


@pytest.mark.parametrize(
    ("name", "host", "run"),
    [
        ("raspberry-pi", SMALL_PI, "tiny"),
        ("raspberry-pi", PI, "small"),
        ("cluster", NODE, "wide"),
        ("cluster", PI, "lean"),
        ("desktop", LAPTOP, "quick"),
    ],
)
def test_target_suits_the_host(name: str, host: dict[str, object], run: str) -> None:
    assert chosen(name, host) == run
