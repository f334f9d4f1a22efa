"""Files that lie, given to `run` and `convert`: a sentence, nothing left, a server unharmed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hostile_worlds as hostile
import numpy as np
import pytest
import yaml
from live_server import CONSOLE_SCRIPT, Server, server
from source_worlds import DATA

from scanflow_serve.runtime.artifacts import file_digest

MODELS = DATA.with_name("models")
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Victim:
    """A server that serves from the cache that the hostile file is given to.

    Attributes:
        row: What it is asked.
        logits: What it answered before.
    """

    running: Server
    cache: Path
    row: list[list[float]]
    logits: np.ndarray

    def assert_unharmed(self) -> None:
        found = self.running.predict(self.row)["outputs"]["logits"]
        np.testing.assert_allclose(found, self.logits, rtol=1e-3)

    def files(self) -> dict[str, str]:
        found = (path for path in self.cache.rglob("*") if path.is_file())
        return {path.relative_to(self.cache).as_posix(): file_digest(path) for path in found}


def write_policy(folder: Path, source: str, backends: list[str] | None = None) -> Path:
    model = {"source": source} | ({"variants": {"backends": backends}} if backends else {})
    document = {
        "apiVersion": "scanflow/v1",
        "name": "p",
        "models": {"net": model},
        "workflows": {"w": {"steps": [{"model": "net"}]}},
        "targets": [{"run": "w"}],
        "objective": {"minimize": "latency_p95_ms"},
    }
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    folder, cache = tmp_path_factory.mktemp("victim"), tmp_path_factory.mktemp("cache")
    (folder / "net.onnx").write_bytes((MODELS / "digits-mlp.onnx").read_bytes())
    policy = write_policy(folder, "net.onnx", ["onnxruntime"])
    with np.load(DATA / "digits-test.npz") as data:
        row = data["pixels"][:1].astype(np.float32).tolist()
    with server(policy, environ={"SCANFLOW_CACHE": str(cache)}) as running:
        outputs = running.predict(row)["outputs"]
        yield Victim(running, cache, row, np.array(outputs["logits"]))


def refused(victim: Victim, folder: Path, *arguments: object) -> str:
    """Return what a command that fails wrote, in one line; it has left nothing of its own."""
    scratch = folder / "tmp"
    scratch.mkdir()
    environ = {
        "SCANFLOW_CACHE": str(victim.cache),
        "BENTOML_HOME": str(folder / "bentoml"),
        "TMPDIR": str(scratch),
    }
    done = subprocess.run(
        [str(CONSOLE_SCRIPT), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env=os.environ | environ,
    )
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1, text
    assert "Traceback" not in text
    assert list(scratch.iterdir()) == []
    scratch.rmdir()
    victim.assert_unharmed()
    return text


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (hostile.truncated, "must be an ONNX file, got bytes that do not parse"),
        (hostile.escaping_upwards, "external data must stay in"),
        (hostile.escaping_by_an_absolute_path, "external data must stay in"),
        (hostile.escaping_by_a_link, "external data must stay in"),
        (hostile.bomb_of_torch, "net.pt2 must unpack to at most 268435456 bytes"),
        (hostile.bomb_of_skops, "net.skops must unpack to at most 268435456 bytes"),
        (hostile.bomb_in_a_bento, "saved_model.skops must unpack to at most 268435456 bytes"),
        (hostile.operator_that_nobody_has, "lacks the operator Frobnicate (node 'odd-one')"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_hostile_file_is_refused_and_leaves_nothing(
    victim: Victim, tmp_path: Path, made: Callable[[Path], str], says: str
) -> None:
    source = made(tmp_path)
    policy = write_policy(tmp_path, source)
    before = victim.files()
    given = source if ":" in source else tmp_path / source
    for arguments in (("run", policy, "--port", "0"), ("convert", given, "--json")):
        assert says in refused(victim, tmp_path, *arguments)
    assert victim.files() == before


@pytest.mark.parametrize(
    ("made", "backend", "says"),
    [
        (
            hostile.number_of_dimensions_that_nobody_knows,
            "openvino",
            "'x' must have a known number",
        ),
        (hostile.batch_that_is_fixed_inside, "openvino", "output 'y' must have as many rows"),
        (
            hostile.batch_that_is_fixed_inside,
            "onnxruntime",
            "running Reshape node. Name:'make-two'",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_dynamic_shape_that_a_backend_cannot_take_is_refused_by_its_name(
    victim: Victim, tmp_path: Path, made: Callable[[Path], str], backend: str, says: str
) -> None:
    """The file itself is sound: what stays in the cache is its signature, and that it failed."""
    policy = write_policy(tmp_path, made(tmp_path), [backend])
    before = victim.files()
    options = ("--backend", backend, "--json")
    for arguments in (("run", policy, "--port", "0"), ("convert", tmp_path / "net.onnx", *options)):
        assert says in refused(victim, tmp_path, *arguments)
    added = victim.files().keys() - before.keys()
    assert {name.partition("/")[0] for name in added} <= {"artifacts", "measurements"}


def test_operator_that_one_backend_lacks_is_named_in_the_plan_and_the_other_serves(
    victim: Victim, tmp_path: Path
) -> None:
    (tmp_path / "net.onnx").write_bytes((MODELS / "digits-linear.onnx").read_bytes())
    policy = write_policy(tmp_path, "net.onnx")
    with server(policy, environ={"SCANFLOW_CACHE": str(victim.cache)}) as running:
        assert running.predict(victim.row)["variant"].startswith("net/onnxruntime-")
        plan = str(running.get("/plan"))
        assert "openvino can't load it: it lacks the operator ai.onnx.ml.LinearClassifier" in plan
    victim.assert_unharmed()
