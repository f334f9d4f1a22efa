import numpy as np
import pytest
from workflow_worlds import World, logits, model, probabilities, sample, spec

from scanflow_serve.policies.errors import WorkflowError

SLOT = "W: {steps: [{model: [a, b]}]}"
X = np.array([[0.0, 1.0], [3.0, 2.0]], np.float32)


def names(specs):
    return [each.name for each in specs]


def test_public_names_are_those_of_the_first_model_whatever_fills_the_slot(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": logits("out", 2.0, "image")}, SLOT)
    pipeline = world.build("b")
    assert (names(pipeline.signature.inputs), pipeline.output) == (["x"], "logits")
    np.testing.assert_array_equal(pipeline.run({"x": X})["logits"], X * 2)


def test_several_inputs_correspond_by_name_in_any_order(tmp_path):
    def pair(*inputs):
        sign = 1 if inputs[0] == "p" else -1
        specs = [spec(name, 2) for name in inputs]
        return model(specs, [spec("y", 2)], lambda one, two: [sign * (one - two)])

    pipeline = World(tmp_path, {"a": pair("p", "q"), "b": pair("q", "p")}, SLOT).build("b")
    np.testing.assert_array_equal(pipeline.run({"p": X, "q": X * 3})["y"], X - X * 3)


def test_input_names_that_differ_are_an_error_with_both_models(tmp_path):
    two = model([spec("p", 2), spec("q", 2)], [spec("y", 2)], lambda p, q: [p])
    world = World(tmp_path, {"a": logits(), "b": two}, SLOT)
    with pytest.raises(WorkflowError, match=r"\['x'\] of 'a' and \['p', 'q'\] of 'b'"):
        world.build("a")


def test_inputs_of_different_shape_are_an_error_with_both_models(tmp_path):
    wide = model([spec("x", 3)], [spec("y", 2)], lambda x: [x[:, :2]])
    with pytest.raises(WorkflowError, match=r"\[rows, 2\] of 'a' and 'x' .*\[rows, 3\] of 'b'"):
        World(tmp_path, {"a": logits(), "b": wide}, SLOT).build("a")


def test_different_classes_are_an_error_with_both_models(tmp_path):
    wide = model([spec("x", 2)], [spec("y", 3)], lambda x: [np.zeros((len(x), 3), np.float32)])
    with pytest.raises(WorkflowError, match=r"the same classes, got 'logits' .* of 'a' and 'y'"):
        World(tmp_path, {"a": logits(), "b": wide}, SLOT).build("a")


def test_a_single_model_publishes_all_its_outputs_unchanged(tmp_path):
    world = World(tmp_path, {"a": probabilities()}, "W: {steps: [{model: a}]}")
    pipeline = world.build("a")
    assert pipeline.run == world.sessions["a"].run
    assert names(pipeline.signature.outputs) == ["label", "probabilities"]


def test_a_slot_of_several_publishes_the_outputs_that_all_have(tmp_path):
    with_extra = model(
        [spec("x", 2)],
        [spec("label", dtype="int64"), spec("scores", 2), spec("extra", 5)],
        lambda x: [np.zeros(len(x), np.int64), x, np.zeros((len(x), 5), np.float32)],
    )
    world = World(tmp_path, {"a": with_extra, "b": probabilities()}, SLOT)
    world.models["a"]["output"] = "scores"
    pipeline = world.build("b")
    assert names(pipeline.signature.outputs) == ["label", "scores"]
    assert sorted(pipeline.run({"x": X})) == ["label", "scores"]


def two_floats():
    outputs = [spec("p", 2), spec("q", 2)]
    return model([spec("x", 2)], outputs, lambda x: [x, x + 1])


def test_an_ambiguous_output_in_a_slot_of_several_is_an_error_that_names_output(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": two_floats()}, SLOT)
    with pytest.raises(WorkflowError, match=r"models\.b: exactly one output .* `output:`"):
        world.build("a")


def test_an_ambiguous_output_alone_is_an_error_only_where_it_is_needed(tmp_path):
    pipeline = World(tmp_path, {"a": two_floats()}, "W: {steps: [{model: a}]}").build("a")
    outputs = pipeline.run({"x": X})
    assert (sorted(outputs), pipeline.output) == (["p", "q"], None)
    with pytest.raises(WorkflowError, match=r"Name the one that classifies with `output:`"):
        pipeline.classification(outputs)


def test_output_of_the_policy_overrides(tmp_path):
    world = World(tmp_path, {"a": two_floats()}, "W: {steps: [{model: a}]}")
    world.models["a"]["output"] = "q"
    pipeline = world.build("a")
    np.testing.assert_array_equal(pipeline.classification(pipeline.run({"x": X})), X + 1)


def test_output_that_the_model_lacks_is_an_error(tmp_path):
    world = World(tmp_path, {"a": two_floats()}, "W: {steps: [{model: a}]}")
    world.models["a"]["output"] = "r"
    with pytest.raises(WorkflowError, match=r"models\.a\.output: .* \['p', 'q'\], got 'r'"):
        world.build("a")


@pytest.mark.parametrize("labels", [["no"], ["no", "yes", "maybe"]])
def test_labels_that_are_not_one_a_class_are_an_error(tmp_path, labels):
    world = World(tmp_path, {"a": logits(), "b": logits()}, SLOT)
    world.models["b"]["labels"] = labels
    with pytest.raises(
        WorkflowError,
        match=rf"models\.b\.labels: .* the 2 classes of output .*, got {len(labels)}\.",
    ):
        world.build("a")


def test_labels_are_not_counted_where_the_model_does_not_tell_its_classes(tmp_path):
    free = model([spec("x", 2)], [spec("y", None)], lambda x: [x])
    score = model([spec("x", 2)], [spec("y", 1)], lambda x: [x[:, :1]])
    world = World(tmp_path, {"a": free, "b": score}, "W: {steps: [{model: a}, {model: b}]}")
    for name in world.models:
        world.models[name]["labels"] = ["no", "yes", "maybe"]
    assert world.build("a", "b").run({"x": X})["y"].shape == (2, 1)


def test_logits_become_probabilities_in_a_slot_known_to_be_mixed(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": probabilities()}, SLOT)
    pipeline = world.build("a", kinds={"a": "logits", "b": "probabilities"})
    e = np.exp(X)
    assert pipeline.kind == "probabilities"
    np.testing.assert_allclose(
        pipeline.run({"x": X})["logits"], e / e.sum(axis=1, keepdims=True), rtol=1e-6
    )


def test_kind_of_the_policy_makes_a_slot_mixed_without_measurements(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": probabilities()}, SLOT)
    world.models["b"]["kind"] = "probabilities"
    assert world.build("a", rows=sample()).kind == "probabilities"
    assert world.build("b", rows=sample()).kind == "probabilities"


def test_outputs_stay_as_they_are_where_another_models_kind_is_unknown(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": probabilities()}, SLOT)
    pipeline = world.build("a", rows=sample())
    assert pipeline.kind == "logits"
    np.testing.assert_array_equal(pipeline.run({"x": X})["logits"], X)


def test_kinds_that_cannot_be_converted_are_an_error(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": logits()}, SLOT)
    with pytest.raises(WorkflowError, match=r"of one kind.*'a': 'score', 'b': 'logits'.*`kind:`"):
        world.build("a", kinds={"a": "score", "b": "logits"})


def test_kind_is_told_from_the_validation_rows_else_logits(tmp_path):
    world = World(tmp_path, {"a": probabilities()}, "W: {steps: [{model: a}]}")
    rows = sample()
    assert (world.build("a", rows=rows).kind, world.build("a").kind) == ("probabilities", "logits")


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 9])
def test_any_number_of_rows_runs_on_a_model_of_fixed_batch(tmp_path, rows):
    fixed = model([spec("x", 2, batch=4)], [spec("y", 2, batch=4)], lambda x: [x * 2])
    pipeline = World(tmp_path, {"a": fixed}, "W: {steps: [{model: a}]}").build("a")
    x = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    np.testing.assert_array_equal(pipeline.run({"x": x})["y"], x * 2)
    assert set(fixed.batches) == {4}
    assert pipeline.signature.inputs[0].shape == (None, 2)


def test_validation_rows_that_the_model_cannot_take_are_an_error(tmp_path):
    world = World(tmp_path, {"a": logits()}, "W: {steps: [{model: a}]}")
    with pytest.raises(WorkflowError, match=r"must fit the input 'x', .*got .*\[3, 5\]"):
        world.build("a", rows=sample(x=np.zeros((3, 5), np.float32)))


def test_columns_of_a_table_are_put_side_by_side_as_the_only_input(tmp_path):
    world = World(tmp_path, {"a": logits()}, "W: {steps: [{model: a}]}")
    table = sample(width=np.array([1, 2, 3]), height=np.array([4.0, 5.0, 6.0]))
    pipeline = world.build("a", rows=table)
    assert pipeline.inputs(table)["x"].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert pipeline.inputs(table)["x"].dtype == np.float32


def test_a_model_that_may_not_fill_the_slot_is_an_error(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": logits()}, "W: {steps: [{model: a}]}")
    with pytest.raises(WorkflowError, match=r"takes one of \['a'\], got 'b'"):
        world.build("b")


def test_a_candidate_with_too_few_variants_is_an_error(tmp_path):
    world = World(tmp_path, {"a": logits()}, "W: {steps: [{model: a}]}")
    with pytest.raises(WorkflowError, match="for each of 1 slots, got 0 and 0"):
        world.build()


def test_a_model_of_the_slot_that_is_not_on_this_host_does_not_count(tmp_path):
    world = World(tmp_path, {"a": logits(), "b": logits()}, SLOT)
    pipeline = world.build("a", signatures={"a": world.sessions["a"].signature})
    np.testing.assert_array_equal(pipeline.run({"x": X})["logits"], X)


def test_a_closed_pipeline_leaves_its_sessions_open_and_runs_no_more(tmp_path):
    pipeline = World(tmp_path, {"a": logits()}, "W: {steps: [{model: a}]}").build("a")
    pipeline.close()
    with pytest.raises(WorkflowError, match="A closed workflow can't run"):
        pipeline.run({"x": X})
