"""Mutated model files, in a bounded time: each is converted or refused, no more.

Seeds and counts are fixed, so that what fails once fails again; a slow machine tries fewer.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models

from scanflow_serve.converters import runner
from scanflow_serve.converters.admission import examine
from scanflow_serve.converters.conversion import Context
from scanflow_serve.converters.routes import STEPS, Step
from scanflow_serve.converters.runner import Limits
from scanflow_serve.policies.errors import ArtifactError

EXAMINED, CONVERTED = 10_000, 80  # mutants; a fifth of these is admitted, and takes a process each
SECONDS = 30.0  # for each test; it takes 5 to 10 where nobody else is at work
HEAD = 4000  # bytes; behind them lie weights, where a mutation only changes numbers
MODELS = Path(__file__).parents[1] / "contract" / "models"
STEP = {step.name: step for step in STEPS}


@pytest.fixture
def seeds(tmp_path: Path) -> list[bytes]:
    """Return small models of unlike operators."""
    return [
        tiny_models.linear(tmp_path / "seed.onnx", hidden=4).read_bytes(),
        tiny_models.sum_and_difference(tmp_path / "seed.onnx").read_bytes(),
        *((MODELS / f"digits-{name}.onnx").read_bytes() for name in ("linear", "mlp", "cnn")),
    ]


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return *data* cut, with bits flipped, bytes lost, doubled or set to a boundary."""
    out = bytearray(data)
    at = chance.randrange(min(HEAD, len(out)))
    match chance.randrange(5):
        case 0:
            del out[at:]
        case 1:
            for _ in range(chance.randint(1, 6)):
                out[chance.randrange(min(HEAD, len(out)))] ^= 1 << chance.randrange(8)
        case 2:
            del out[at : at + chance.randint(1, 20)]
        case 3:
            start = chance.randrange(len(out))
            out[at:at] = out[start : start + chance.randint(1, 40)]
        case _:
            out[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
    return bytes(out)


def tried(attempt: Callable[[bytes], str], seeds: list[bytes], count: int) -> Counter[str]:
    """Return how often *attempt* had which outcome, for up to *count* mutants of *seeds*."""
    chance = random.Random(20240607)
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + SECONDS
    while outcomes.total() < count and time.monotonic() < end:
        outcomes[attempt(mutate(chance.choice(seeds), chance))] += 1
    return outcomes


def test_examination_admits_or_refuses_every_mutant(tmp_path: Path, seeds: list[bytes]) -> None:
    path = tmp_path / "mutant.onnx"

    def attempt(data: bytes) -> str:
        path.write_bytes(data)
        try:
            examine(path)
        except ArtifactError as error:
            assert str(error).startswith(str(path))  # noqa: PT017 - either outcome is right
            return "refused"
        return "admitted"

    outcomes = tried(attempt, seeds, EXAMINED)
    assert set(outcomes) == {"admitted", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clean", "openvino", "onnx-int8-dynamic"])
def test_admitted_mutants_are_converted_or_refused_and_leave_nothing(
    tmp_path: Path, seeds: list[bytes], name: str
) -> None:
    """The dangerous ones: those that look like a model."""
    path = tmp_path / "mutant.onnx"
    folder = tmp_path / "made"
    folder.mkdir()

    def attempt(data: bytes) -> str:
        path.write_bytes(data)
        try:
            examine(path)
        except ArtifactError:
            return "not tried"
        return convert(STEP[name], path, folder)

    outcomes = tried(attempt, seeds, CONVERTED)
    assert set(outcomes) >= {"not tried", "converted"}
    assert set(outcomes) <= {"not tried", "converted", "refused"}


def convert(step: Step, path: Path, folder: Path) -> str:
    try:
        limits = Limits(timeout_s=60, memory_mb=2048)
        made = runner.convert([step], path, folder, Context(), limits=limits)
    except ArtifactError as error:
        assert "mutant.onnx" in str(error)  # noqa: PT017 - either outcome is right
        assert list(folder.iterdir()) == []
        return "refused"
    assert made.parent == folder
    for file in folder.iterdir():
        file.unlink()
    return "converted"
