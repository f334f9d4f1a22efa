"""Preparing beside a server: what goes wrong there is told here, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from scanflow_serve.policies.errors import PolicyError, RequestError, StateError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime import prepared
from scanflow_serve.serving import preparation

pytestmark = pytest.mark.slow


def quick(contract: Path, **changes: str) -> PolicyFile:
    text = f"{(contract / 'quickstart.yaml').read_text()}measurement: {{budget_s: 10}}\n"
    text = text.replace("[digits-mlp, digits-cnn]", "digits-mlp")
    for old, new in changes.items():
        text = text.replace(old, new)
    return load_policy(contract / "quickstart.yaml", text=text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan").mkdir()
    return tmp_path / "plan"


def test_plan_is_there_afterwards(contract: Path, folder: Path) -> None:
    policy_file = quick(contract)
    asyncio.run(preparation.prepare(policy_file, folder))
    found = prepared.load(folder, policy_file=policy_file)
    assert found.plan.chosen.models == ("digits-mlp",)


def test_policy_that_this_host_can_not_serve_is_refused_with_the_reason(
    contract: Path, folder: Path
) -> None:
    policy_file = quick(contract, **{"max_latency_p95_ms: 20": "max_latency_p95_ms: 0.000001"})
    with pytest.raises(RequestError, match="a candidate must meet the constraints") as caught:
        asyncio.run(preparation.prepare(policy_file, folder))
    assert caught.value.status == 422


def test_faults_seen_there_keep_their_places(contract: Path, folder: Path) -> None:
    policy_file = quick(contract)
    (contract / "models" / "digits-mlp.onnx").unlink()
    with pytest.raises(PolicyError, match=r"models/digits-mlp\.onnx") as caught:
        asyncio.run(preparation.prepare(policy_file, folder))
    assert caught.value.faults[0].path == "models.digits-mlp.source"


CRASHING = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
SLEEPING = """
import pathlib
import time
pathlib.Path(__file__).with_name("entered").touch()
time.sleep(600)
"""


def with_module(contract: Path, code: str) -> PolicyFile:
    """Return a policy whose module runs *code* when it is imported."""
    (contract / "odd.py").write_text(f"{code}\ndef step(logits):\n    return logits\n")
    slot = "      - model: digits-mlp"
    return quick(contract, **{slot: f"{slot}\n      - python: odd:step"})


def test_module_that_crashes_costs_the_candidate_and_not_the_server(
    contract: Path, folder: Path
) -> None:
    policy_file = with_module(contract, CRASHING)
    with pytest.raises((RequestError, StateError), match="SIGSEGV"):
        asyncio.run(preparation.prepare(policy_file, folder))


def test_nothing_is_left_of_a_preparation_that_is_given_up(contract: Path, folder: Path) -> None:
    policy_file = with_module(contract, SLEEPING)

    before = set(psutil.Process().children(recursive=True))  # other tests' servers

    async def give_up() -> set[psutil.Process]:
        preparing = asyncio.create_task(preparation.prepare(policy_file, folder))
        while not (contract / "entered").exists():
            assert not preparing.done()
            await asyncio.sleep(0.02)
        family = set(psutil.Process().children(recursive=True)) - before
        preparing.cancel()
        await asyncio.wait({preparing})
        assert preparing.cancelled()
        return family

    family = asyncio.run(give_up())
    assert family
    assert not psutil.wait_procs(family, timeout=10)[1]
