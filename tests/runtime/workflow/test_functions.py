import numpy as np
import pytest
from workflow_worlds import World, logits, sample

from scanflow_serve.policies.errors import WorkflowError

ONE_STEP = "W: {steps: [{python: steps:f}]}"


def world(folder, code, workflows=ONE_STEP, **sessions):
    return World(folder, sessions, workflows).write("steps.py", "import numpy as np\n" + code)


def test_an_array_is_named_after_the_function(tmp_path):
    pipeline = world(tmp_path, "def f(x): return x * 2").build(rows=sample())
    assert [s.name for s in pipeline.signature.outputs] == ["f"]
    np.testing.assert_array_equal(pipeline.run({"x": np.ones((2, 2), np.float32)})["f"], 2.0)


def test_a_dict_keeps_its_names(tmp_path):
    code = "def f(x): return {'low': x.min(axis=1), 'n': np.ones(len(x), np.int64)}"
    pipeline = world(tmp_path, code).build(rows=sample())
    assert [(s.name, s.dtype, s.shape) for s in pipeline.signature.outputs] == [
        ("low", "float32", (None,)),
        ("n", "int64", (None,)),
    ]


def test_public_input_is_learned_from_the_validation_rows(tmp_path):
    rows = sample(x=np.zeros((3, 4, 5), np.uint8))
    signature = world(tmp_path, "def f(image): return image").build(rows=rows).signature
    assert [(s.name, s.dtype, s.shape) for s in signature.inputs] == [
        ("image", "uint8", (None, 4, 5))
    ]


def test_several_tensors_are_taken_by_name(tmp_path):
    code = "def f(b, a): return a - b"
    rows = sample(a=np.full((3, 1), 5.0), b=np.full((3, 1), 2.0))
    pipeline = world(tmp_path, code).build(rows=rows)
    assert pipeline.run(pipeline.inputs(rows))["f"].tolist() == [[3.0]] * 3


def test_params_reach_the_function_by_name(tmp_path):
    steps = "W: {steps: [{python: steps:f, params: {by: 3, sign: -1}}]}"
    built = world(tmp_path, "def f(x, by, *, sign): return x * by * sign", steps)
    assert built.build(rows=sample()).run({"x": np.ones((1, 2), np.float32)})["f"][0, 0] == -3


def test_an_unknown_param_is_an_error_with_the_signature(tmp_path):
    steps = "W: {steps: [{python: steps:f, params: {lo: 3}}]}"
    with pytest.raises(
        WorkflowError,
        match=r"steps\[0\]\.params: .* of steps:f\(x, \*, low=0\), got \['lo'\]",
    ):
        world(tmp_path, "def f(x, *, low=0): return x", steps).build(rows=sample())


def test_a_missing_param_is_an_error_with_the_signature(tmp_path):
    with pytest.raises(WorkflowError, match=r"steps:f\(x, \*, low\), got none for \['low'\]"):
        world(tmp_path, "def f(x, *, low): return x").build(rows=sample())


def test_tensors_that_do_not_match_by_name_are_an_error(tmp_path):
    steps = "W: {steps: [{model: m}, {python: steps:f}]}"
    built = world(tmp_path, "def f(a, b): return a", steps, m=logits())
    with pytest.raises(WorkflowError, match=r"inputs \['a', 'b'\] of steps:f .* got \['logits'\]"):
        built.build("m", rows=sample())


def test_without_validation_rows_is_an_error_that_names_the_step(tmp_path):
    with pytest.raises(WorkflowError, match=r"workflows\.W\.steps\[0\]: .* needs validation rows"):
        world(tmp_path, "def f(x): return x").build()


def test_a_failing_step_is_told_with_file_line_and_text(tmp_path):
    code = (
        "def f(x):\n    if (x > 50).any():\n        raise ValueError('too bright')\n    return x\n"
    )
    pipeline = world(tmp_path, code).build(rows=sample())
    with pytest.raises(
        WorkflowError,
        match=r"workflows\.W\.steps\[0\]: steps:f failed at .*/steps\.py:4: ValueError: too bright",
    ) as caught:
        pipeline.run({"x": np.full((1, 2), 99, np.float32)})
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_failure_inside_a_library_is_told_at_the_line_of_the_step(tmp_path):
    code = "def f(x):\n    return np.concatenate([x, x[:, :1]], axis=0)\n"
    with pytest.raises(WorkflowError, match=r"failed at .*/steps\.py:3: ValueError: all the input"):
        world(tmp_path, code).build(rows=sample())


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("x.tolist()", "must return an array, or a dict of arrays by name, got list"),
        ("None", "got NoneType"),
        ("{}", "got an empty dict"),
        ("{'y': 3.0}", "got float under 'y'"),
        ("x.sum(axis=0, keepdims=True)", r"as many rows as it takes, got 'f' of shape \[1, 2\]"),
        ("x.mean()", "got float32"),
    ],
)
def test_a_wrong_result_is_an_error_at_load(tmp_path, result, message):
    with pytest.raises(WorkflowError, match=message):
        world(tmp_path, f"def f(x): return {result}").build(rows=sample())


def test_a_step_that_drops_rows_at_run_time_is_an_error(tmp_path):
    pipeline = world(tmp_path, "def f(x): return x[x[:, 0] < 50]").build(rows=sample())
    with pytest.raises(WorkflowError, match=r"shape \[0, 2\] for 1 rows"):
        pipeline.run({"x": np.full((1, 2), 99, np.float32)})


def test_a_step_that_changes_its_names_at_run_time_is_an_error(tmp_path):
    code = "def f(x): return {'big' if x.max() > 50 else 'small': x}"
    pipeline = world(tmp_path, code).build(rows=sample())
    with pytest.raises(WorkflowError, match=r"\['small'\], got \['big'\]"):
        pipeline.run({"x": np.full((1, 2), 99, np.float32)})


def test_a_dtype_that_varies_within_its_kind_is_cast_to_the_public_one(tmp_path):
    code = "def f(x): return x.astype(np.float64) if x.max() > 50 else x"
    pipeline = world(tmp_path, code).build(rows=sample())
    assert pipeline.run({"x": np.full((1, 2), 99, np.float32)})["f"].dtype == np.float32


def test_a_step_may_not_change_its_input_in_place(tmp_path):
    code = "def f(x):\n    x += 1\n    return x"
    with pytest.raises(WorkflowError, match=r"steps\.py:3: ValueError: output array is read-only"):
        world(tmp_path, code).build(rows=sample())


def test_a_missing_module_is_an_error_that_says_where_it_was_sought(tmp_path):
    with pytest.raises(WorkflowError, match=rf"got no steps\.py in {tmp_path}"):
        World(tmp_path, {}, ONE_STEP).build(rows=sample())


def test_a_missing_function_is_an_error(tmp_path):
    with pytest.raises(WorkflowError, match=r"steps\.py must define the function 'f', got none"):
        world(tmp_path, "def g(x): return x").build(rows=sample())


def test_a_module_that_fails_to_import_is_told_with_its_line(tmp_path):
    with pytest.raises(WorkflowError, match=r"can't be imported at .*/steps\.py:2: ZeroDivision"):
        world(tmp_path, "1 / 0").build(rows=sample())


def test_modules_beside_the_policy_import_one_another_relatively(tmp_path):
    built = world(tmp_path, "from .lookup import SCALE\ndef f(x): return x * SCALE")
    built.write("lookup.py", "SCALE = 7")
    assert built.build(rows=sample()).run({"x": np.ones((1, 2), np.float32)})["f"][0, 0] == 7


def test_a_plain_import_of_a_module_beside_is_told_the_relative_form(tmp_path):
    built = world(tmp_path, "import lookup_table\ndef f(x): return x")
    built.write("lookup_table.py", "")
    with pytest.raises(WorkflowError, match=r"Write `from \. import lookup_table`"):
        built.build(rows=sample())


def test_an_installed_module_is_found_when_none_lies_beside(tmp_path):
    pipeline = World(tmp_path, {}, "W: {steps: [{python: 'numpy:round'}]}").build(rows=sample())
    outputs = pipeline.run({"a": np.array([[0.4, 0.6]], np.float32)})
    assert outputs["round"].tolist() == [[0, 1]]


def test_a_module_beside_the_policy_neither_shadows_nor_is_shadowed(tmp_path):
    built = World(tmp_path, {}, "W: {steps: [{python: 'json:f'}]}")
    built.write("json.py", "def f(x): return x + 1")
    assert built.build(rows=sample()).run({"x": np.zeros((1, 2), np.float32)})["f"][0, 0] == 1
    import json

    assert json.loads("1") == 1


def test_an_edited_module_is_read_again(tmp_path):
    one = world(tmp_path, "def f(x): return x + 1").build(rows=sample())
    two = world(tmp_path, "def f(x): return x + 20").build(rows=sample())
    zeros = {"x": np.zeros((1, 2), np.float32)}
    assert (one.run(zeros)["f"][0, 0], two.run(zeros)["f"][0, 0]) == (1, 20)


def test_float64_of_a_step_is_cast_to_what_the_model_takes(tmp_path):
    steps = "W: {steps: [{python: steps:f}, {model: m}]}"
    code = "def f(x): return x.astype(np.float64)"
    pipeline = world(tmp_path, code, steps, m=logits()).build("m", rows=sample())
    assert pipeline.run({"x": np.ones((1, 2), np.float32)})["logits"].dtype == np.float32


def test_a_step_whose_result_does_not_fit_the_model_is_an_error_at_load(tmp_path):
    steps = "W: {steps: [{python: steps:f}, {model: m}]}"
    built = world(tmp_path, "def f(x): return x[:, :1]", steps, m=logits())
    with pytest.raises(
        WorkflowError, match=r"steps\[1\]: .* 'x' float32\[rows, 2\], got 'f' float32\[rows, 1\]"
    ):
        built.build("m", rows=sample())
