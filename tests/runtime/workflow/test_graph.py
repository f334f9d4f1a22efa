import pytest
from workflow_worlds import World, logits

from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.runtime.workflow import graph


def slots_of(folder, workflows, run="W"):
    policy = World(folder, {"m": logits()}, workflows).policy_file().policy
    return graph.slots(policy, graph.alternative(policy, run))


@pytest.mark.parametrize("step", ["{script: train.py}", "{checker: drift}"])
def test_a_batch_step_in_a_serving_run_is_an_error_at_its_place(tmp_path, step):
    with pytest.raises(WorkflowError, match=r"workflows\.W\.steps\[1\]: .* got '(script|checker)'"):
        slots_of(tmp_path, f"W: {{steps: [{{model: m}}, {step}]}}")


def test_a_batch_step_in_a_branch_is_named_by_its_branch(tmp_path):
    with pytest.raises(WorkflowError, match=r"workflows\.W\.steps\[0\]\.parallel\[1\]: "):
        slots_of(tmp_path, "W: {steps: [{parallel: [{model: m}, {script: a.py}]}]}")


@pytest.mark.parametrize(
    "option",
    ["when: host.throttled", "for_each: files", "needs: [a]", "retries: 2", "timeout_s: 5"],
)
def test_a_batch_option_in_a_serving_run_is_an_error(tmp_path, option):
    key = option.partition(":")[0]
    with pytest.raises(WorkflowError, match=rf"steps\[0\]\.{key}: only steps of batch workflows"):
        slots_of(tmp_path, f"W: {{steps: [{{model: m, {option}}}]}}")


def test_a_workflow_that_runs_itself_is_an_error_that_shows_the_cycle(tmp_path):
    with pytest.raises(WorkflowError, match=r"got W > V > W\. Break the cycle"):
        slots_of(tmp_path, "W: {steps: [{workflow: V}]}\nV: {steps: [{workflow: W}]}")


def test_a_workflow_used_twice_is_no_cycle(tmp_path):
    found = slots_of(
        tmp_path, "W: {steps: [{workflow: V}, {workflow: V}]}\nV: {steps: [{model: m}]}"
    )
    assert [slot.path for slot in found] == ["workflows.V.steps[0]"] * 2


def test_a_model_alone_is_one_slot(tmp_path):
    assert slots_of(tmp_path, "W: {steps: [{model: m}]}", "model:m") == (
        graph.Slot("models.m", ("m",)),
    )


@pytest.mark.parametrize(("run", "path"), [("W>X", "workflows.X"), ("model:X", "models.X")])
def test_an_unknown_name_is_an_error_that_lists_the_known(tmp_path, run, path):
    with pytest.raises(WorkflowError, match=rf"{path}: must be defined in the policy, got only \["):
        slots_of(tmp_path, "W: {steps: [{model: m}]}", run)
