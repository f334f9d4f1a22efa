from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import CalibrationError, DataError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.validation import load_rows, score

CONTRACT = Path(__file__).parents[1] / "contract"


def in_folder(folder: Path) -> PolicyFile:
    """The quickstart policy as if it lay in *folder*."""
    loaded = load_policy(CONTRACT / "quickstart.yaml")
    return PolicyFile(loaded.policy, folder / "policy.yaml", folder, loaded.text, loaded.digest)


def test_contract_validation_set_is_300_labelled_rows():
    policy_file = load_policy(CONTRACT / "quickstart.yaml")
    assert policy_file.policy.validation
    rows = load_rows(policy_file.policy.validation, policy_file)
    assert rows.rows == 300
    assert rows.inputs["pixels"].shape == (300, 64)
    assert rows.target is not None
    assert rows.target.shape == (300,)


def test_without_input_every_array_but_the_target_is_an_input(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.zeros((3, 2)), b=np.zeros(3), y=np.arange(3))
    rows = load_rows(schema.Validation(data="d.npz", target="y"), in_folder(tmp_path))
    assert list(rows.inputs) == ["a", "b"]


def test_inputs_keep_the_order_of_the_policy(tmp_path):
    np.savez(tmp_path / "d.npz", a=np.zeros((3, 2)), b=np.zeros(3), y=np.arange(3))
    data = schema.Validation(data="d.npz", input=["b", "a"], target="y")
    assert list(load_rows(data, in_folder(tmp_path)).inputs) == ["b", "a"]


def test_samples_keeps_the_first_rows(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(5), y=np.arange(5) * 10)
    data = schema.Validation(data="d.npz", input="x", target="y", samples=2)
    rows = load_rows(data, in_folder(tmp_path))
    assert rows.rows == 2
    assert rows.target is not None
    assert rows.target.tolist() == [0, 10]


def test_csv_columns_are_integers_numbers_or_text(tmp_path):
    (tmp_path / "d.csv").write_text("n,x,kind\n1,0.5,cat\n2,1.5,\u00e9lan\n", encoding="utf-8")
    data = schema.Validation(data="d.csv", input=["n", "x"], target="kind")
    rows = load_rows(data, in_folder(tmp_path))
    assert [a.dtype.name for a in rows.inputs.values()] == ["int64", "float64"]
    assert rows.target is not None
    assert rows.target.tolist() == ["cat", "\u00e9lan"]


def test_a_target_that_the_file_lacks_is_an_error_that_lists_what_it_holds(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros(3), z=np.zeros(3))
    data = schema.Validation(data="d.npz", target="y")
    with pytest.raises(DataError, match=r"d\.npz: must hold 'y', got \['x', 'z'\]"):
        load_rows(data, in_folder(tmp_path))


def test_arrays_that_differ_in_rows_are_an_error_that_shows_their_shapes(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.zeros(4))
    data = schema.Validation(data="d.npz", input="x", target="y")
    with pytest.raises(DataError, match=r"same number of rows.*'x': \[3, 2\], 'y': \[4\]"):
        load_rows(data, in_folder(tmp_path))


def test_pickled_objects_are_not_loaded(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"d\.npz: must be readable as npz, got: Object arrays"):
        load_rows(schema.Data(data="d.npz"), in_folder(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("d.npz", b"not a zip", "must be readable as npz"),
        ("d.npz", b"PK\x03\x04 cut off", "must be readable as npz"),
        ("d.csv", b"a,b\n1\n", "1 cells in row 1 under 2 columns"),
        ("d.csv", b"a,a\n1,2\n", "columns with the same name"),
        ("d.csv", b"a,b\n", "at least one"),
        ("d.csv", b"\xff\xfe\x00", "must be readable as csv"),
        ("d.txt", b"", r"must end with \.npz or \.csv, got '\.txt'"),
    ],
)
def test_a_malformed_file_is_an_error_that_says_why(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        load_rows(schema.Data(data=name), in_folder(tmp_path))


def test_one_array_without_a_name_is_an_error(tmp_path):
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match="must be readable as npz, got: one array without a name"):
        load_rows(schema.Data(data="d.npz"), in_folder(tmp_path))


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"no\.npz: must be readable as npz, got: No such file"):
        load_rows(schema.Data(data="no.npz"), in_folder(tmp_path))


@pytest.mark.parametrize("seed", range(5))
def test_class_metrics_agree_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, 60)
    logits = rng.normal(size=(60, 6)).astype(np.float32)  # classes 4, 5: predicted, never true
    predicted = logits.argmax(axis=1)
    assert score("accuracy", logits, truth) == pytest.approx(
        metrics.accuracy_score(truth, predicted)
    )
    assert score("f1_macro", logits, truth) == pytest.approx(
        metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    )
    recalls = metrics.recall_score(truth, predicted, labels=range(4), average="macro")
    assert score("balanced_accuracy", logits, truth) == pytest.approx(recalls)


@pytest.mark.parametrize("columns", [1, 3])
def test_r2_agrees_with_scikit_learn(columns):
    rng = np.random.default_rng(7)
    truth = rng.normal(size=(40, columns))
    output = truth + rng.normal(size=truth.shape) / 3
    assert score("r2", output, truth) == pytest.approx(metrics.r2_score(truth, output))


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_r2_of_a_constant_target_agrees_with_scikit_learn(offset):
    truth = np.ones(4)
    assert score("r2", truth + offset, truth) == metrics.r2_score(truth, truth + offset)


def test_r2_takes_a_column_for_a_vector():
    assert score("r2", np.array([[1.0], [2.0]]), np.array([1.0, 2.0])) == 1.0


def test_text_target_is_matched_through_the_labels():
    logits = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    target = np.array(["dog", "cat", "cat"], dtype=object)
    assert score("accuracy", logits, target, ["cat", "dog"]) == pytest.approx(2 / 3)


def test_text_output_is_compared_with_text_target():
    output = np.array(["a", "b"], dtype=object)
    assert score("accuracy", output, np.array(["a", "a"], dtype=object)) == 0.5


def test_text_output_is_compared_with_indices_through_the_labels():
    output = np.array(["b", "a", "never heard of"], dtype=object)
    assert score("accuracy", output, np.array([1, 0, 0]), ["a", "b"]) == pytest.approx(2 / 3)


def test_text_target_without_labels_is_an_error():
    with pytest.raises(CalibrationError, match=r"Give the models' `labels:`"):
        score("accuracy", np.eye(2), np.array(["a", "b"], dtype=object))


def test_target_text_that_is_no_label_is_an_error():
    with pytest.raises(CalibrationError, match=r"one of the model's labels \['a'\], got \['x'\]"):
        score("accuracy", np.eye(2)[:1], np.array(["x"], dtype=object), ["a"])


def test_rows_with_nan_count_as_wrong():
    output = np.array([[np.nan, 0.0], [1.0, 0.0]])
    assert score("accuracy", output, np.array([0, 0])) == 0.5


def test_accuracy_of_a_float_vector_is_an_error():
    with pytest.raises(CalibrationError, match=r"shape \(rows, classes\), got \[3\].*metric: r2"):
        score("accuracy", np.zeros(3), np.zeros(3))


def test_output_and_target_of_different_rows_are_an_error():
    with pytest.raises(CalibrationError, match="as many rows, got 2 and 3"):
        score("accuracy", np.eye(2), np.zeros(3))


def test_classes_that_are_numbers_but_do_not_count_from_0_are_scored_by_name() -> None:
    output = np.eye(3, dtype=np.float32)
    assert score("accuracy", output, np.array([10, 20, 30]), ["10", "20", "30"]) == 1.0
    assert score("accuracy", output, np.array([10, 10, 30]), ["10", "20", "30"]) == 2 / 3


def test_indices_beside_names_stay_indices() -> None:
    output = np.eye(3, dtype=np.float32)
    assert score("accuracy", output, np.array([0, 1, 2]), ["a", "b", "c"]) == 1.0
