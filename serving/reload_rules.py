"""What ``PUT /policy`` may change, and what takes a restart or a word of the running policy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from scanflow_serve.policies.errors import PolicyError, RequestError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.policies.nodes import Node, Place, Report, parse
from scanflow_serve.policies.schema import (
    COMBINES,
    CheckerStep,
    ParallelStep,
    Policy,
    PythonStep,
    ScriptStep,
    Step,
)

# Read once, by the processes around the worker, or by those who know its address.
FIXED = (
    ("name",),
    ("state",),
    *(("serve", key) for key in ("host", "port", "server", "tls", "tracing", "shutdown_grace_s")),
)


def successor(text: str, running: PolicyFile) -> PolicyFile:
    """Return the policy of *text*, if it may follow the *running* one.

    Paths resolve against the running policy's folder.

    Raises:
        PolicyError: It has faults, all of them told, or changes what takes a restart.
        RequestError: 403, it adds or changes code, and ``serve.allow_code_reload`` is not true.
    """
    policy_file = load_policy(running.path, text=text)
    report = Report(str(running.path))
    root = parse(policy_file.text, os.environ, report)
    for keys in FIXED:
        then, now = _value(running.policy, keys), _value(policy_file.policy, keys)
        if then != now:
            rule = f"must stay {_shown(then)} while the server runs, got {_shown(now)}"
            _report(report, root, keys, rule, "Restart the server for it.")
    if policy_file.policy.serve.auth is None and running.policy.serve.auth is not None:
        rule = "must stay set while the server runs: others may reach its address, got none"
        _report(report, root, ("serve", "auth"), rule, "Write auth: none to let anyone in.")
    if report.faults:
        raise PolicyError(report.faults)
    if not running.policy.serve.allow_code_reload:
        _refuse_code(policy_file.policy, running.policy)
    return policy_file


def _value(policy: Policy, keys: tuple[str, ...]) -> Any:
    value: Any = policy
    for key in keys:
        value = getattr(value, key)
    return value


def _shown(value: Any) -> str:
    return "unset" if value is None else repr(value)


def _report(report: Report, root: Node | None, keys: tuple[str, ...], rule: str, cure: str) -> None:
    node = root.get(*keys) if root is not None else None
    place = node.place if node is not None else Place(1, 1)
    report.at(place, rule, cure, path=".".join(keys))


def _refuse_code(policy: Policy, running: Policy) -> None:
    known = set(_code(running))
    if new := [code for code in dict.fromkeys(_code(policy)) if code not in known]:
        raise RequestError(
            403,
            "The policy must not add or change code while the running one does not say "
            f"serve.allow_code_reload: true, got {', '.join(code.shown for code in new)}. "
            "Restart the server with it.",
        )


@dataclass(frozen=True, slots=True)
class _Code:
    """Something that runs a person's code.

    Attributes:
        settings: All that the policy says of it; may hold secrets of the environment.
    """

    shown: str
    settings: str


def _code(policy: Policy) -> Iterator[_Code]:
    for name, model in policy.models.items():
        if model.source.startswith("torch:") or model.trust_pickle is not None:
            shown = f"models.{name}.source {model.source!r}"
            yield _Code(shown, f"{model.weights} {model.trust_pickle}")
    for name, flow in policy.workflows.items():
        for step in flow.steps:
            yield from _code_of(step, f"workflows.{name}")


def _code_of(step: Step, where: str) -> Iterator[_Code]:
    settings = step.model_dump_json(exclude_defaults=True, include=_RUNS)
    if isinstance(step, ParallelStep):
        if step.combine is not None and step.combine not in COMBINES:
            yield _Code(f"combine {step.combine!r} in {where}", settings)
        for inner in step.parallel:
            yield from _code_of(inner, where)
    elif isinstance(step, PythonStep | ScriptStep | CheckerStep):
        key = next(key for key in ("python", "script", "checker") if hasattr(step, key))
        yield _Code(f"{key} {getattr(step, key)!r} in {where}", settings)
    elif settings != "{}":
        yield _Code(f"the settings of a step in {where}", settings)


# What a step's code is, what it is given, and what it runs in.
_RUNS = {"params", "requirements", "env", "image", "dockerfile"}
