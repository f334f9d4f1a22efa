import numpy as np
import pytest
from workflow_worlds import World, logits, model, probabilities, sample, spec

from scanflow_serve.policies.errors import WorkflowError

X = np.array([[0.0, 1.0], [5.0, 2.0]], np.float32)
THREE = {"a": logits("one"), "b": logits("two", 2.0), "c": logits("three", 9.0)}


def combined(folder, combine, sessions=None, **options):
    sessions = sessions or THREE
    branches = ", ".join(f"{{model: {name}}}" for name in sessions)
    text = f"W: {{steps: [{{parallel: [{branches}], combine: '{combine}'}}]}}"
    world = World(folder, sessions, text)
    world.write(
        "steps.py",
        "def heaviest(*outputs): return outputs[-1]\ndef one(x): return x\n"
        "def bad(*outputs): return outputs[0][:1]\n",
    )
    return world.build(*sessions, **options)


@pytest.mark.parametrize(
    ("combine", "expected"),
    [("mean", X * 4), ("median", X * 2), ("max", X * 9), ("vote", [[0, 1], [1, 0]])],
)
def test_combination_is_taken_element_by_element_under_the_first_branchs_name(
    tmp_path, combine, expected
):
    pipeline = combined(tmp_path, combine)
    outputs = pipeline.run({"x": X})
    assert list(outputs) == ["one"] == [s.name for s in pipeline.signature.outputs]
    np.testing.assert_allclose(outputs["one"], expected)
    assert outputs["one"].dtype == np.float32


def test_concat_puts_classes_side_by_side(tmp_path):
    pipeline = combined(tmp_path, "concat", rows=sample())
    np.testing.assert_array_equal(pipeline.run({"x": X})["one"], np.hstack([X, X * 2, X * 9]))
    assert pipeline.signature.outputs[0].shape == (None, 6)


def test_a_function_of_the_policy_combines(tmp_path):
    pipeline = combined(tmp_path, "steps:heaviest", rows=sample())
    np.testing.assert_array_equal(pipeline.run({"x": X})["one"], X * 9)


def test_a_function_that_takes_too_few_branches_is_an_error(tmp_path):
    with pytest.raises(WorkflowError, match=r"combine: steps:one\(x\) must take one array .* 3"):
        combined(tmp_path, "steps:one", rows=sample())


def test_a_function_that_drops_rows_is_an_error(tmp_path):
    with pytest.raises(WorkflowError, match=r"array of 3 rows, .* got shape \[1, 2\]"):
        combined(tmp_path, "steps:bad", rows=sample())


def test_votes_are_shares_of_the_branches(tmp_path):
    against = {**THREE, "c": logits("three", -1.0)}
    pipeline = combined(tmp_path, "vote", against)
    np.testing.assert_allclose(pipeline.run({"x": X})["one"], [[1 / 3, 2 / 3], [2 / 3, 1 / 3]])
    assert pipeline.kind == "probabilities"


def test_logits_become_probabilities_before_they_meet_probabilities(tmp_path):
    mixed = {"a": logits("one"), "b": probabilities("two", "x")}
    pipeline = combined(tmp_path, "mean", mixed, rows=sample())
    soft = np.exp(X) / np.exp(X).sum(axis=1, keepdims=True)
    expected = (soft + np.array([0.25, 0.75])) / 2
    np.testing.assert_allclose(pipeline.run({"x": X})["one"], expected, rtol=1e-6)
    assert pipeline.kind == "probabilities"


def test_branches_of_different_classes_are_an_error(tmp_path):
    wide = model([spec("x", 2)], [spec("y", 3)], lambda x: [np.zeros((len(x), 3), np.float32)])
    with pytest.raises(WorkflowError, match=r"steps\[0\]\.combine: mean takes .* same classes"):
        combined(tmp_path, "mean", {"a": logits(), "b": wide})


def test_labels_can_not_be_combined(tmp_path):
    label = model([spec("x", 2)], [spec("y", dtype="int64")], lambda x: [np.zeros(len(x), int)])
    with pytest.raises(WorkflowError, match=r"vote takes float outputs of shape"):
        combined(tmp_path, "vote", {"a": label, "b": label})


def test_a_branch_with_an_ambiguous_output_is_an_error(tmp_path):
    two = model([spec("x", 2)], [spec("p", 2), spec("q", 2)], lambda x: [x, x])
    with pytest.raises(WorkflowError, match=r"parallel\[1\]: exactly one output must be float"):
        combined(tmp_path, "mean", {"a": logits(), "b": two})


def test_without_combine_outputs_merge_by_name(tmp_path):
    steps = "W: {steps: [{parallel: [{model: a}, {model: b}]}]}"
    pipeline = World(tmp_path, THREE, steps).build("a", "b")
    outputs = pipeline.run({"x": X})
    np.testing.assert_array_equal(outputs["one"], X)
    np.testing.assert_array_equal(outputs["two"], X * 2)


def test_a_clash_of_names_without_combine_is_an_error(tmp_path):
    steps = "W: {steps: [{parallel: [{model: a}, {model: b}]}]}"
    with pytest.raises(WorkflowError, match=r"different names, got \['logits'\] more than once"):
        World(tmp_path, {"a": logits(), "b": logits()}, steps).build("a", "b")


def test_workflows_nest_in_branches(tmp_path):
    steps = (
        "W: {steps: [{parallel: [{workflow: V}, {model: b}], combine: max}]}\n"
        "V: {steps: [{python: 'steps:ten'}, {model: a}]}"
    )
    world = World(tmp_path, THREE, steps).write("steps.py", "def ten(x): return x * 10")
    pipeline = world.build("a", "b", rows=sample())
    np.testing.assert_array_equal(pipeline.run({"x": X})["one"], X * 10)
