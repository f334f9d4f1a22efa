from __future__ import annotations

from collections.abc import Callable

import pytest

from scanflow_serve.policies.translation import nearest

Faults = Callable[..., list[str]]

HEAD = """\
apiVersion: scanflow/v1
name: line
models: {m: {source: models/digits-mlp.onnx}}
workflows: {A: {steps: [{model: m}]}}
targets: [{run: A}]
"""
OBJECTIVE = "objective: {minimize: latency_p95_ms}\n"
STEPS = "model, python, workflow, parallel, script, checker"
NAME = (
    "must match [A-Za-z0-9][A-Za-z0-9._-]{0,62}, got '-x'. "
    "Use up to 63 letters, digits, '.', '_' and '-', a letter or digit first."
)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("serve: {prot: 1}", "7:9: serve.prot is not a known key. Did you mean 'port'?"),
        ("objectiv: 1", "7:1: objectiv is not a known key. Did you mean 'objective'?"),
        ("store: {}", "7:1: store.url must be given, got nothing. "
         "Add it: SQLAlchemy URL: sqlite:///FILE or postgresql://…"),
        ("serve: {port: 70000}", "7:15: serve.port must be <= 65535, got 70000."),
        ("serve: {port: -1}", "7:15: serve.port must be >= 0, got -1."),
        ("serve: {port: '80'}", "7:15: serve.port must be a whole number, got '80'. "
         "Write it without quotes, fraction or unit."),
        ("serve: {port: 80.5}", "7:15: serve.port must be a whole number, got 80.5. "
         "Write it without quotes, fraction or unit."),
        ("serve: {tracing: yes}", "7:18: serve.tracing must be true or false, got 'yes'. "
         "Write it without quotes."),
        ("serve: {host: 1}", "7:15: serve.host must be text, got 1. Put it in quotes."),
        ("serve: {server: uvicron}", "7:17: serve.server must be one of bentoml, uvicorn, "
         "got 'uvicron'. Did you mean 'uvicorn'?"),
        ("serve: {auth: nobody}", "7:15: serve.auth must be none, got 'nobody'."),
        ("serve: {auth: {}}", "7:15: serve.auth must have exactly one of keys_from_env and "
         "keys_file. For example: keys_from_env: SCANFLOW_KEYS"),
        ("serve: {tls: 5}", "7:14: serve.tls must be a mapping, got 5. "
         "Write KEY: VALUE lines, indented below it."),
        ("serve: {shutdown_grace_s: 0}", "7:27: serve.shutdown_grace_s must be > 0, got 0. "
         "Give seconds, for example 30."),
        ("serve: {limits: {rate_rps: .inf}}", "7:28: serve.limits.rate_rps must be a finite "
         "number, got inf. Give requests per second, for example 100."),
        ("serve: {limits: {body_mb: 16 MB}}", "7:27: serve.limits.body_mb must be a number, "
         "got '16 MB'. Give mebibytes, for example 512."),
        ("adapt: 3", "7:8: adapt must be a list, got 3. "
         "Write [A, B], or an item a line after '- '."),
        ("checks: [{drift: , balance: }]", "7:10: checks[0] must have one key, the check's type, "
         "got {'drift': None, 'balance': None}. For example: - drift: {method: ks}"),
        ("serve: {image: {mode: L, width: 8, height: 8, layout: flat, std: [1.0, 2.0]}}",
         "7:16: serve.image must have 1 value(s) in std for mode L, got 2. Give one a channel."),
        ("measurement:", "7:13: measurement must be a mapping, got nothing. "
         "Write KEY: VALUE lines, indented below it."),
    ],
)  # fmt: skip
def test_schema_fault_says_rule_value_and_cure(faults: Faults, line: str, fault: str) -> None:
    assert faults(f"{HEAD}{OBJECTIVE}{line}\n") == [f"pi4.yaml:{fault}"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("{m: {", "{-x: {}, m: {", "3:10: models.-x " + NAME),
        ("{model: m}", "{mode: m}", f"4:25: workflows.A.steps[0] must have exactly one of the keys "
         f"{STEPS}, got {{'mode': 'm'}}. For example: - model: digits-cnn"),
        ("{model: m}", "{model: []}", "4:33: workflows.A.steps[0].model must have at least 1 "
         "item(s), got []. Add one."),
        ("{model: m}", "{python: clip}", "4:34: workflows.A.steps[0].python must be "
         "module:function, got 'clip'. For example: steps:softmax"),
        ("{model: m}", "{model: m, retry: 1}", "4:36: workflows.A.steps[0].retry is not a known "
         "key. Did you mean 'retries'?"),
        ("run: A}", "run: 3}", "5:17: targets[0].run must be a workflow's name, {any: [NAME, …]} "
         "or {sequence: [NAME, …]}, got 3. Name a workflow that is defined under workflows."),
        ("run: A}", "run: {any: A}}", "5:23: targets[0].run.any must be a list, got 'A'. "
         "Write [A, B], or an item a line after '- '."),
        ("{minimize: latency_p95_ms}", "{}", "6:12: objective must have exactly one of maximize "
         "and minimize. For example: maximize: accuracy"),
        (OBJECTIVE, "", "1:1: objective must be given, got nothing. "
         'Add it: What "best" means.'),
    ],
)  # fmt: skip
def test_fault_in_a_required_part_is_placed(faults: Faults, old: str, new: str, fault: str) -> None:
    assert f"pi4.yaml:{fault}" in faults((HEAD + OBJECTIVE).replace(old, new))


def test_nearest_word_ignores_case_and_lists_all_where_none_is_near() -> None:
    assert nearest("FP32", ["fp32", "int8"]) == "Did you mean 'fp32'?"
    assert nearest("q", ["fp32", "int8"]) == "Known: fp32, int8."
    assert nearest("q", []) == "None is defined."
