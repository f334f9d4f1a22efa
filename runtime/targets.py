"""Which target of a policy matches a host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from scanflow_serve.policies.conditions import compile_condition
from scanflow_serve.policies.errors import TargetError
from scanflow_serve.policies.schema import Policy
from scanflow_serve.policies.vocabulary import TARGET_VARIABLES
from scanflow_serve.runtime.host.model import HostProfile

_MEMBER = re.compile(r"\bhost((?:\.[A-Za-z_]\w*)+)")  # such as host.cpu.cores


def match(policy: Policy, host: HostProfile) -> int:
    """Return the index of the first target whose `when` holds on *host*.

    A target without `when` holds everywhere.

    Raises:
        TargetError: None holds; the text lists the conditions and what they asked of the host.
    """
    values = {"host": host.variables()}
    for index, target in enumerate(policy.targets):
        if target.when is None:
            return index
        condition = compile_condition(target.when, TARGET_VARIABLES, frozenset())
        if condition.holds(values):
            return index
    raise TargetError(_mismatch(policy, values["host"]))


def _mismatch(policy: Policy, host: Mapping[str, Any]) -> str:
    conditions = [target.when or "" for target in policy.targets]
    asked = sorted({path for text in conditions for path in _MEMBER.findall(text)})
    lines = [f"{policy.name}: the `when` of one target must hold on this host, got none."]
    lines += [f"  targets[{index}].when: {text}" for index, text in enumerate(conditions)]
    lines += [f"  here host{path} is {_value(host, path)}" for path in asked]
    lines.append("Add a last target without `when`, or declare the host by SCANFLOW_DEVICE_KIND.")
    return "\n".join(lines)


def _value(host: Mapping[str, Any], path: str) -> str:
    """Return the JSON-like text of the member *path*, such as ``.cpu.cores``."""
    value: Any = host
    for member in path.strip(".").split("."):
        if not isinstance(value, Mapping) or member not in value:
            return "unknown"
        value = value[member]
    return f"{value:g}" if isinstance(value, float) else repr(value)
