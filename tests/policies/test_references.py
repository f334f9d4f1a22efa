from __future__ import annotations

from collections.abc import Callable

import pytest

from scanflow_serve.policies.loader import PolicyFile

Faults = Callable[..., list[str]]
Load = Callable[..., PolicyFile]

HEAD = """\
apiVersion: scanflow/v1
name: line
models: {digits-mlp: {source: models/digits-mlp.onnx}}
objective: {minimize: latency_p95_ms}
"""
A = f"{HEAD}workflows: {{A: {{steps: [{{model: digits-mlp}}]}}}}\ntargets: [{{run: A}}]\n"


def test_least_policy_loads(load: Load) -> None:
    assert load(A).policy.name == "line"


@pytest.mark.parametrize(
    ("tail", "fault"),
    [
        ("adapt: [{when: traffic.queue > 9, use: digits-mpl}]",
         "7:40: adapt[0].use must name a model or a variant of one, got 'digits-mpl'. "
         "Did you mean 'digits-mlp'?"),
        ("adapt: [{when: traffic.queue > 9, use: digits-mlp/openvino}]",
         "7:40: adapt[0].use must be MODEL or MODEL/BACKEND-PRECISION[@DEVICE][xTHREADS], "
         "got 'digits-mlp/openvino'. For example: digits-cnn/openvino-int8x2"),
        ("adapt: [{when: traffic.queue > 9, retrain: true}]",
         "7:44: adapt[0].retrain must know which workflow retrains, got true without "
         "feedback.retrain. Add feedback.retrain.workflow, or name the workflow here."),
        ("adapt: [{when: traffic.queue > 9, retrain: B}]",
         "7:44: adapt[0].retrain must name a workflow that is defined, got 'B'. "
         "Define it under workflows. Known: A."),
        ("adapt: [{when: traffic.queue > 9}]",
         "7:9: adapt[0] must have at least one of prefer, use, alert and retrain. "
         "For example: prefer: latency"),
        ("adapt: [{when: 'checks[\"drift\"].state == \"ok\"', prefer: latency}]",
         "7:24: adapt[0].when must name a configured check, got 'drift'. None is defined."),
        ("checks: [{drift: {workflow: B}}]",
         "7:29: checks[0].drift.workflow must name a workflow that is defined, got 'B'. "
         "Define it under workflows. Known: A."),
        ("checks: [{drfit: {}}]",
         "7:11: checks[0].drfit must be a check's type, got 'drfit'. Did you mean 'drift'?"),
        ("checks: [drift: , drift: {}]",
         "7:26: checks[1].drift must have a name of its own, got 'drift', the name of "
         "checks[0].drift. Give it another name."),
        ("checks: [{drift: {name: x}}, {balance: {name: x}}]",
         "7:47: checks[1].balance.name must have a name of its own, got 'x', the name of "
         "checks[0].drift. Give it another name."),
        ("feedback: {retrain: {workflow: digits-mlp}}",
         "7:32: feedback.retrain.workflow must name a workflow that is defined, got 'digits-mlp'. "
         "digits-mlp is a model: use it in a workflow's step."),
        ("feedback: {retrain: {workflow: A, when: host.memory_mb > 1}}",
         "7:41: feedback.retrain.when must name one of the variables checks, feedback, model, "
         "got 'host'. Put text in quotes."),
    ],
)  # fmt: skip
def test_name_that_refers_to_nothing_is_a_fault(faults: Faults, tail: str, fault: str) -> None:
    assert faults(f"{A}{tail}\n") == [f"pi4.yaml:{fault}"]


@pytest.mark.parametrize("use", ["digits-mlp", "digits-mlp/openvino-int8x2"])
def test_rule_may_use_a_model_or_a_variant(load: Load, use: str) -> None:
    assert load(f"{A}adapt: [{{when: traffic.queue > 9, use: {use}}}]\n").policy.adapt[0].use == use


def test_checks_of_one_type_are_told_apart_by_name(load: Load) -> None:
    text = f"{A}checks: [{{drift: {{}}}}, {{drift: {{name: slow}}}}]\n"
    adapt = "adapt: [{when: 'checks[\"slow\"].score > 1', prefer: latency}]\n"
    assert len(load(text + adapt).policy.checks) == 2


def test_policy_models_and_workflows_share_one_namespace(faults: Faults) -> None:
    text = HEAD + (
        "workflows:\n  line: {steps: [{model: digits-mlp}]}\n"
        "  digits-mlp: {steps: [{model: digits-mlp}]}\ntargets: [{run: line}]\n"
    )
    assert faults(text) == [
        "pi4.yaml:6:3: workflows.line must have a name of its own, got 'line', "
        "the name of the policy. Rename the workflow.",
        "pi4.yaml:7:3: workflows.digits-mlp must have a name of its own, got 'digits-mlp', "
        "the name of a model. Rename the workflow.",
    ]


def test_cycle_of_workflows_is_one_fault_that_shows_it(faults: Faults) -> None:
    text = HEAD + (
        "workflows:\n  A: {steps: [{workflow: B}]}\n"
        "  B: {steps: [{parallel: [{model: digits-mlp}, {workflow: C}]}]}\n"
        "  C: {steps: [{workflow: A}]}\ntargets: [{run: A}]\n"
    )
    assert faults(text) == [
        "pi4.yaml:8:26: workflows.C.steps[0].workflow must not lead back to its own workflow, "
        "got A > B > C > A. Break the circle."
    ]


def test_workflow_that_runs_itself_is_a_cycle(faults: Faults) -> None:
    text = f"{HEAD}workflows: {{A: {{steps: [{{workflow: A}}]}}}}\ntargets: [{{run: A}}]\n"
    assert faults(text) == [
        "pi4.yaml:5:36: workflows.A.steps[0].workflow must not lead back to its own workflow, "
        "got A > A. Break the circle."
    ]


def test_workflow_used_twice_is_no_cycle(load: Load) -> None:
    text = HEAD + (
        "workflows:\n  A: {steps: [{workflow: B}, {workflow: B}]}\n"
        "  B: {steps: [{model: digits-mlp}]}\ntargets: [{run: {sequence: [A, B]}}]\n"
    )
    assert load(text).policy.name == "line"


def test_target_after_an_unconditional_one_is_unreachable(faults: Faults) -> None:
    text = A.replace("[{run: A}]", "[{run: A}, {when: host.throttled, run: A}]")
    assert faults(text) == [
        "pi4.yaml:6:21: targets[1] must be reachable, but targets[0] has no 'when' and always "
        "wins. Give that one a condition, or move it to the end."
    ]


def test_target_must_name_workflows_in_any_and_sequence(faults: Faults) -> None:
    text = A.replace("[{run: A}]", "[{when: 'true', run: {any: [A, a]}}, {run: {sequence: [X1]}}]")
    assert faults(text) == [
        "pi4.yaml:6:41: targets[0].run.any[1] must name a workflow that is defined, got 'a'. "
        "Did you mean 'A'?",
        "pi4.yaml:6:65: targets[1].run.sequence[0] must name a workflow that is defined, "
        "got 'X1'. Define it under workflows. Known: A.",
    ]


def test_combine_is_known_or_a_function(faults: Faults) -> None:
    parallel = "{parallel: [{model: digits-mlp}, {model: digits-mlp}], combine: meen}"
    assert faults(A.replace("{model: digits-mlp}]", f"{parallel}]")) == [
        "pi4.yaml:5:89: workflows.A.steps[0].combine must be one of mean, median, max, vote, "
        "concat or module:function, got 'meen'. Did you mean 'mean'?"
    ]


@pytest.mark.parametrize(
    ("objective", "place"),
    [
        ("{maximize: accuracy}", "4:23: objective.maximize"),
        (
            "{minimize: size_mb, subject_to: {min_accuracy: 0.9}}",
            "4:59: objective.subject_to.min_accuracy",
        ),
    ],
)
def test_accuracy_needs_validation_or_a_declared_figure(
    faults: Faults, load: Load, objective: str, place: str
) -> None:
    text = A.replace("{minimize: latency_p95_ms}", objective)
    assert faults(text) == [
        f"pi4.yaml:{place} needs 'validation', or 'accuracy' declared on digits-mlp. "
        "Add validation: {data: FILE, input: ARRAY, target: ARRAY}."
    ]
    assert load(text.replace("mlp.onnx}", "mlp.onnx, accuracy: 0.97}")).policy.models


def test_int8_in_so_many_words_needs_calibration(faults: Faults, load: Load) -> None:
    text = A.replace("mlp.onnx}", "mlp.onnx, variants: {precisions: [fp32, int8]}}")
    assert faults(text) == [
        "pi4.yaml:3:85: models.digits-mlp.variants.precisions[1] needs 'calibration', rows whose "
        "ranges int8 is scaled to. Add calibration: {data: FILE, input: ARRAY}."
    ]
    assert load(f"{text}calibration: {{data: data/digits-train.npz, input: pixels}}\n").policy
