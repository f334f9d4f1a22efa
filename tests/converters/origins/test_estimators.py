from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from origin_worlds import Find, artifact, assert_answers_alike
from sklearn.cluster import FeatureAgglomeration, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

pytestmark = pytest.mark.slow
IMAGES, DIGITS = load_digits(return_X_y=True)
IMAGES, DIGITS = IMAGES[:300].astype(np.float32), DIGITS[:300]
NAMES = np.array([f"digit {n}" for n in DIGITS])


@pytest.mark.parametrize(
    ("model", "target", "output", "width"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), NAMES,
         "probabilities", 10),
        (RandomForestClassifier(10, random_state=0), DIGITS, "probabilities", 10),
        (LinearSVC(random_state=0), DIGITS, "scores", 10),
        (LinearSVC(random_state=0), DIGITS > 4, "scores", 2),
        (Ridge(), DIGITS, "values", 1),
        (make_pipeline(StandardScaler(), PCA(5)), None, "values", 5),
        (KMeans(4, n_init=1, random_state=0), None, "values", 4),
        (make_pipeline(StandardScaler(), xgboost.XGBClassifier(n_estimators=5)), DIGITS,
         "probabilities", 10),
        (lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), DIGITS, "probabilities", 10),
        (IsolationForest(n_estimators=20, random_state=0), None, "values", 1),
        (xgboost.XGBRegressor(n_estimators=5), DIGITS, "values", 1),
    ],
    ids=["logistic", "forest", "svc", "svc2", "ridge", "pca", "kmeans",
         "xgb", "lgbm", "iforest", "xgbr"],
)  # fmt: skip
def test_estimator_answers_alike_as_onnx(
    find: Find, folder: Path, tmp_path: Path, model: Any, target: Any, output: str, width: int
) -> None:
    joblib.dump(model.fit(IMAGES, target), folder / "net.joblib")
    origin = find("net.joblib", trust_pickle="I trust this file")
    exported = origin.export(tmp_path / "out")
    signature = artifact(exported).signature
    assert signature.inputs == (TensorSpec("input", "float32", (None, 64)),)
    assert signature.outputs == (TensorSpec(output, "float32", (None, width)),)
    reference = assert_answers_alike(origin, exported, {"input": IMAGES})[output]
    if output != "values":
        assert exported.labels == tuple(map(str, model.classes_.tolist()))
        predicted = np.asarray(model.classes_)[reference.argmax(axis=1)]
        np.testing.assert_array_equal(predicted, model.predict(IMAGES))


def test_skops_needs_no_consent(find: Find, folder: Path, tmp_path: Path) -> None:
    skops.io.dump(LogisticRegression(max_iter=500).fit(IMAGES / 16, DIGITS), folder / "net.skops")
    origin = find("net.skops", inputs={"pixels": {"shape": [-1, 64]}})
    exported = origin.export(tmp_path / "out")
    assert_answers_alike(origin, exported, {"pixels": IMAGES / 16})


def test_pipeline_of_text_and_number_columns_takes_them_by_name(
    find: Find, folder: Path, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"colour": ["red", "blue", "red", "green"] * 5, "size": np.arange(20.0)})
    encoder = ColumnTransformer(
        [("text", OneHotEncoder(), ["colour"]), ("number", StandardScaler(), ["size"])]
    )
    model = make_pipeline(encoder, LogisticRegression(max_iter=500)).fit(frame, np.arange(20) % 3)
    skops.io.dump(model, folder / "net.skops")
    with pytest.raises(ArtifactError, match=r"inputs: \{colour: \{shape: \[-1, 1\], dtype: str\}"):
        find("net.skops").export(tmp_path / "out")
    columns = {"colour": {"shape": [-1, 1], "dtype": "str"}, "size": {"shape": [-1, 1]}}
    origin = find("net.skops", inputs=columns)
    exported = origin.export(tmp_path / "out")
    rows = {
        "colour": np.array([["blue"], ["red"]], dtype=object),
        "size": np.array([[1.0], [7.5]], np.float32),
    }
    reference = assert_answers_alike(origin, exported, rows)["probabilities"]
    expected = model.predict_proba(pd.DataFrame({"colour": ["blue", "red"], "size": [1.0, 7.5]}))
    np.testing.assert_allclose(reference, expected, rtol=1e-5)


class Evil:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._mark,))


@pytest.mark.parametrize("name", ["net.joblib", "net.pkl", "net.pickle"])
def test_pickle_is_refused_unread(find: Find, folder: Path, tmp_path: Path, name: str) -> None:
    joblib.dump(Evil(tmp_path / "mark"), folder / name)
    with pytest.raises(ArtifactError, match='trust_pickle: "I trust this file"'):
        find(name).export(tmp_path / "out")
    assert not (tmp_path / "mark").exists()


def test_types_that_skops_does_not_know_are_named(find: Find, folder: Path, tmp_path: Path) -> None:
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(make_pipeline(FunctionTransformer(shift)), folder / "net.skops")
    with pytest.raises(ArtifactError, match=r"types that skops does not know: .*shift"):
        find("net.skops").export(tmp_path / "out")


def shift(values: np.ndarray) -> np.ndarray:
    return values + 1


@pytest.mark.parametrize("name", ["net.skops", "net.joblib"])
def test_malformed_file_is_refused(find: Find, folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).write_bytes(b"neither zip nor pickle")
    with pytest.raises(ArtifactError, match=f"{name} can't be loaded"):
        find(name, trust_pickle="I trust this file").export(tmp_path / "out")


def test_what_is_no_estimator_is_refused(find: Find, folder: Path, tmp_path: Path) -> None:
    joblib.dump({"a": 1}, folder / "net.joblib")
    with pytest.raises(
        ArtifactError, match=r"must hold a fitted estimator or pipeline .* got dict"
    ):
        find("net.joblib", trust_pickle="I trust this file").export(tmp_path / "out")


def test_part_without_a_converter_is_named(find: Find, folder: Path, tmp_path: Path) -> None:
    model = make_pipeline(FeatureAgglomeration(3), LogisticRegression(max_iter=500)).fit(
        IMAGES, DIGITS
    )
    joblib.dump(model, folder / "net.joblib")
    with pytest.raises(ArtifactError, match=r"skl2onnx must know every part of Pipeline.*Agglom"):
        find("net.joblib", trust_pickle="I trust this file").export(tmp_path / "out")
