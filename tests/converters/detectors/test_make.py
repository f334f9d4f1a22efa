from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from detector_worlds import CHANNELS, DIGITS, digits_reference, live, pixels, sines

from scanflow_serve.converters.detectors import runner
from scanflow_serve.converters.detectors.make import CALIBRATION, Order, make
from scanflow_serve.converters.runner import Limits
from scanflow_serve.policies.errors import ArtifactError, DataError, MissingExtraError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.checks.recipes import recipe
from scanflow_serve.runtime.checks.reconstruction import ReconstructionError, reconstruction
from scanflow_serve.runtime.checks.rows import Reference
from scanflow_serve.runtime.checks.scored import ScoreMember
from scanflow_serve.runtime.store import ArtifactStore
from scanflow_serve.runtime.stored import Refused

WHERE = "checks[0].drift"
pytestmark = pytest.mark.slow


def digits_order(**settings: int) -> Order:
    score = reconstruction(DIGITS, "autoencoder", **settings)
    return Order(WHERE, "drift", score, digits_reference())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def trained(store: ArtifactStore) -> Artifact:
    made = make(digits_order(), store)
    assert isinstance(made, Artifact)
    return made


def test_serving_finds_what_was_trained_on_its_rows(
    store: ArtifactStore, trained: Artifact
) -> None:
    member = ScoreMember(
        "drift", ReconstructionError(DIGITS, recipe("autoencoder"), find=store.find)
    )
    member.fit(digits_reference())
    assert isinstance(member.score, ReconstructionError)
    assert member.score.trained
    kept = np.load(trained.path.parent / CALIBRATION)
    np.testing.assert_allclose(member.calibrations[""].scores, kept, rtol=1e-6)


def test_manifest_tells_what_is_promised_and_what_was_measured(trained: Artifact) -> None:
    told = trained.manifest.verification
    assert told["rows"] == {"fit": 600, "calibrate": 300, "verify": 100}
    assert told["rate_low"] < told["rate"] <= told["alpha"] < told["rate_high"]
    assert told["low"] < told["high"]
    assert 0 <= told["rate_verified"] <= 0.06
    assert told["parity"] <= 1e-5
    assert trained.manifest.tools["torch"]


def test_graph_holds_nothing_of_the_machine_that_trained(trained: Artifact) -> None:
    model = onnx.load(trained.path)
    assert {output.name for output in model.graph.output} == {"err", "z", "err_feature"}
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b"site-packages" not in trained.path.read_bytes()


def test_known_detector_is_not_trained_again(
    store: ArtifactStore, trained: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    again = make(digits_order(), store)
    assert isinstance(again, Artifact)
    assert again.id == trained.id


def test_restart_takes_up_the_trained_detector(store: ArtifactStore, trained: Artifact) -> None:
    score = ReconstructionError(DIGITS, recipe("autoencoder"), find=store.find)
    member = ScoreMember("drift", score)
    member.fit(digits_reference())
    again = ReconstructionError(DIGITS, recipe("autoencoder"), find=store.find)
    again.restore(score.state())
    rows = live("pixels", pixels("validation"))
    np.testing.assert_array_equal(score.score(rows), again.score(rows))


def test_same_seed_gives_the_same_detector(tmp_path: Path) -> None:
    made = [make(digits_order(epochs=2), ArtifactStore(tmp_path / name)) for name in "ab"]
    first, second = ([np.load(each.path.parent / CALIBRATION)] for each in made)  # type: ignore[union-attr]
    np.testing.assert_array_equal(first[0], second[0])


def test_missing_torch_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'scanflow-serve\[convert\]'"):
        make(digits_order(), ArtifactStore(tmp_path))


def test_too_few_rows_say_how_many_are_needed(tmp_path: Path) -> None:
    order = replace(digits_order(), reference=digits_reference(500))
    with pytest.raises(DataError, match=r"must give >= 199 rows .* got 150 .* Give 664 rows"):
        make(order, ArtifactStore(tmp_path))


def test_reference_that_moves_is_refused_and_remembered(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    setting = replace(
        CHANNELS,
        signature=replace(
            CHANNELS.signature,
            inputs=(replace(CHANNELS.signature.inputs[0], shape=(None, 8)),),
        ),
    )
    score = reconstruction(setting, "autoencoder", epochs=1)
    reference = Reference({"sensor": rows}, seed=0)
    parts = ScoreMember("drift", score).parts(reference)
    rows[parts.verify] *= 9
    order = Order(WHERE, "drift", score, reference)
    store = ArtifactStore(tmp_path)
    made = make(order, store)
    assert isinstance(made, Refused)
    assert "of 100 rows kept back" in made.refusal.reason
    assert make(order, store) == made


def test_training_over_its_time_ends_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"checks\[0\].drift: training .* did not finish in"):
        make(digits_order(), ArtifactStore(tmp_path), limits=Limits(timeout_s=0.1))


def test_too_few_features_are_refused(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(1000, 4)).astype(np.float32)
    rows[:, 3] = 1.0
    order = Order(
        WHERE, "drift", reconstruction(CHANNELS, "autoencoder"), Reference({"sensor": rows})
    )
    with pytest.raises(ArtifactError, match=r">= 4 features that vary, got 3\. Use method: pca"):
        make(order, ArtifactStore(tmp_path))


@pytest.mark.parametrize("method", ["window_dense", "lstm"])
def test_sequence_detector_sees_what_no_row_shows(method: str, tmp_path: Path) -> None:
    score = reconstruction(CHANNELS, method, steps=16, epochs=12)
    reference = Reference({"sensor": sines(12_800, 0)}, ordered=True)
    store = ArtifactStore(tmp_path)
    made = make(Order(WHERE, "drift", score, reference), store)
    assert isinstance(made, Artifact)
    member = ScoreMember(method, ReconstructionError(CHANNELS, score.recipe, store.find))
    member.fit(reference)
    clean = member.rank(live("sensor", sines(1600, 1), "clean"))
    assert clean is not None
    assert clean.path.max() < np.log(10_000)
    for change in ({"faster": 1.1}, {"coupled": False}):
        member.detector.acknowledge()
        rows = sines(3200, 2, **change)  # type: ignore[arg-type]
        moved = member.rank(live("sensor", rows, str(change)))
        assert moved is not None
        assert moved.path.max() >= np.log(10_000), change
