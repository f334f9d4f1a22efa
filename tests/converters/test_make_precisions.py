"""Precisions that a policy asks for, classes that a source names, memory that a host grants."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
import tiny_models
import yaml

from scanflow_serve.converters.make import Maker
from scanflow_serve.converters.runner import Limits
from scanflow_serve.converters.verification import gate, relative_error
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.prepare import Prepared, prepare
from scanflow_serve.runtime.requests import Request
from scanflow_serve.runtime.supply import artifact_for

pytestmark = pytest.mark.slow
ESTIMATOR = """
    import sys, warnings
    from pathlib import Path

    warnings.simplefilter("ignore")
    import numpy as np, skops.io
    from sklearn.linear_model import LogisticRegression

    random, folder = np.random.default_rng(0), Path(sys.argv[1])
    x = random.normal(size=(200, 4)).astype("float32")
    kinds = np.array(["ant", "bee"])[(x[:, 0] > 0).astype(int)]
    numbers = np.array([10, 20])[(x[:, 0] > 0).astype(int)]
    skops.io.dump(LogisticRegression().fit(x, kinds), folder / "kinds.skops")
    skops.io.dump(LogisticRegression().fit(x, numbers), folder / "numbers.skops")
    skops.io.dump(LogisticRegression().fit(x, numbers // 10 - 1), folder / "indices.skops")
    np.savez(folder / "rows.npz", x=x, kinds=kinds, numbers=numbers, indices=numbers // 10 - 1)
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def policy(folder: Path, model: dict[str, object], **sections: object) -> PolicyFile:
    document = {
        "apiVersion": "scanflow/v1",
        "name": "one",
        "models": {"net": model},
        "workflows": {"run": {"steps": [{"model": "net"}]}},
        "targets": [{"run": "run"}],
        "objective": {"minimize": "size_mb"},
        "measurement": {"budget_s": 600},
        **sections,
    }
    return load_policy(folder / "policy.yaml", text=yaml.safe_dump(document, sort_keys=False))


def prepared(policy_file: PolicyFile) -> Prepared:
    host = profile_host()
    return prepare(policy_file, host, ingest=Maker(host), gate=gate)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_weights_in_fewer_bits_are_chosen_for_their_size_and_served(
    tmp_path: Path, backend: str
) -> None:
    source = tiny_models.linear(tmp_path / "net.onnx", features=64, hidden=2048, classes=10)
    variants = {"backends": [backend], "precisions": ["fp32", "w16", "w8"], "threads": [1]}
    outcome = prepared(policy(tmp_path, {"source": "net.onnx", "variants": variants}))
    assert [v.rejected for v in outcome.plan.verdicts if v.measurement is None] == []
    sizes = {
        v.candidate.variants[0].precision: v.measurement.size_mb
        for v in outcome.plan.verdicts
        if v.measurement is not None
    }
    assert sizes["w16"] == pytest.approx(sizes["fp32"] / 2, rel=0.1)
    assert sizes["w8"] == pytest.approx(sizes["fp32"] / 4, rel=0.15)
    (chosen,) = outcome.plan.chosen.variants
    assert chosen.id == f"net/{backend}-w8x1"
    manifest = artifact_for(chosen, outcome.artifacts["net"]).manifest
    assert manifest.effective == {backend: "w8"}
    assert manifest.weights["int8"] > 0.9
    assert manifest.verification["logits"]["error"] < 0.02
    rows = {"x": np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)}
    engine = Engine(outcome)
    try:
        answer = asyncio.run(engine.infer(Request("one", rows, 8)))
    finally:
        engine.close()
    assert answer.variant == chosen.id
    wanted = rows["x"]
    for weight in tiny_weights(source):
        wanted = wanted @ weight
    assert relative_error(wanted, answer.outputs["logits"]) < 0.02


def tiny_weights(path: Path) -> list[np.ndarray]:
    import onnx

    return [onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]


@pytest.fixture(scope="module")
def estimators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimators")
    command = [sys.executable, "-c", dedent(ESTIMATOR), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("name", "given", "labels"),
    [
        ("kinds", None, ("ant", "bee")),
        ("kinds", ["A", "B"], ("A", "B")),
        ("numbers", None, ("10", "20")),
        ("indices", None, None),
    ],
)
def test_classes_are_named_as_the_estimator_does_unless_the_policy_names_them(
    estimators: Path, name: str, given: list[str] | None, labels: tuple[str, ...] | None
) -> None:
    variants = {"backends": ["onnxruntime"], "precisions": ["fp32"], "threads": [1]}
    model: dict[str, object] = {"source": f"{name}.skops", "variants": variants}
    sections: dict[str, object] = {}
    if given is None:  # the target has the estimator's names
        sections["validation"] = {"data": "rows.npz", "input": "x", "target": name}
    else:
        model["labels"] = given
    outcome = prepared(policy(estimators, model, **sections))
    if given is None:
        (measured,) = (v.measurement for v in outcome.plan.verdicts)
        assert measured is not None
        assert measured.accuracy is not None
        assert measured.accuracy > 0.9
    engine = Engine(outcome)
    try:
        assert engine.served("one").labels == labels
    finally:
        engine.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's own memory")
def test_source_that_asks_for_more_memory_than_the_host_grants_is_refused_with_the_bound(
    tmp_path: Path,
) -> None:
    (tmp_path / "nets.py").write_text(
        "import torch\n\n\ndef net():\n    return torch.nn.Linear(2**16, 2**16)\n"
    )
    model = {"source": "torch:nets:net", "inputs": {"x": {"shape": [-1, 2**16]}}}
    policy_file = policy(tmp_path, model)
    maker = Maker(profile_host(), limits=Limits(memory_mb=2048))
    with pytest.raises(
        ArtifactError,
        match=r"^Model 'net': the process that loads it must stay within 2048 MB of memory",
    ):
        maker("net", policy_file.policy.models["net"], policy_file)
