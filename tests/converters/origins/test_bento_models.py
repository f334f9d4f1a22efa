from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pytest
import tiny_models
from origin_worlds import Find, assert_answers_alike
from sklearn.linear_model import LogisticRegression

from scanflow_serve.converters.origins.origin import Lineage
from scanflow_serve.policies.errors import ArtifactError


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return tmp_path / "bentoml" / "models"


def keep(store: Path, name: str, version: str) -> Path:
    """Lay a model of BentoML's store out; a test below holds this to BentoML itself."""
    folder = store / name / version
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text(f"name: {name}\nversion: {version}\n")
    (store / name / "latest").write_text(version)
    return folder


def test_tag_of_an_onnx_model_answers(find: Find, store: Path, tmp_path: Path) -> None:
    path = tiny_models.linear(keep(store, "net", "v1") / "saved_model.onnx")
    keep(store, "net", "v2")
    origin = find("bento:net:v1")
    exported = origin.export(tmp_path / "out")
    assert exported.path == path
    assert origin.lineage == Lineage("bento:net:v1")
    assert_answers_alike(origin, exported, {"x": np.ones((3, 4), np.float32)})


def test_tag_without_a_version_is_the_latest_and_a_pickle_needs_consent(
    find: Find, store: Path, tmp_path: Path
) -> None:
    keep(store, "clf", "a1")
    rows = np.eye(4, dtype=np.float32)
    model = LogisticRegression().fit(rows, [0, 1, 0, 1])
    joblib.dump(model, keep(store, "clf", "b2") / "saved_model.pkl")
    with pytest.raises(ArtifactError, match='trust_pickle: "I trust this file"'):
        find("bento:clf").export(tmp_path / "out")
    origin = find("bento:clf:latest", trust_pickle="I trust this file")
    assert origin.lineage == Lineage("bento:clf:b2")
    assert_answers_alike(origin, origin.export(tmp_path / "out"), {"input": rows})


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("bento:../net", "must read NAME or NAME:VERSION"),
        ("bento:net:../../etc", "must read NAME or NAME:VERSION"),
        ("bento:other", "must be in .*got none"),
        ("bento:net:v9", "got versions: v1"),
        ("bento:net:v1", "must hold one model file .* got none"),
    ],
)
def test_tag_that_leads_to_no_model_is_refused(
    find: Find, store: Path, source: str, text: str
) -> None:
    keep(store, "net", "v1")
    with pytest.raises(ArtifactError, match=text):
        find(source)


def test_store_is_laid_out_as_bentoml_itself_does(store: Path, tmp_path: Path) -> None:
    bentoml = pytest.importorskip("bentoml")
    ours = keep(store, "net", "v1")
    with bentoml.models.create("theirs:v1", _model_store=model_store(store)) as reference:
        (Path(reference.path) / "net.onnx").write_bytes(b"")
    theirs = store / "theirs" / "v1"
    assert (theirs / "model.yaml").is_file()
    assert (ours.parent / "latest").read_text() == (theirs.parent / "latest").read_text()


def model_store(folder: Path) -> object:
    from bentoml._internal.models.model import ModelStore

    return ModelStore(folder)
