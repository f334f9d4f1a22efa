"""The variables that a CEL condition may name, and their types.

Conditions are checked against this table when a policy is loaded, so that a typo is an
error at load and not at 3 a.m. `HostProfile` is held to the ``host`` part by a test.
All numbers are double: integer literals in a condition are promoted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class ListType:
    """A list of one type of item."""

    item: Type


@dataclass(frozen=True, slots=True)
class MapType:
    """A map from any string to one type of value, such as ``host.labels``."""

    value: Type


@dataclass(frozen=True, slots=True)
class RecordType:
    """A fixed set of named members."""

    members: dict[str, Type]


Type: TypeAlias = Literal["bool", "double", "string"] | ListType | MapType | RecordType

HOST = RecordType(
    {
        "kind": "string",  # raspberry-pi, jetson, desktop, laptop, server, cluster, container, ...
        "model": "string",  # device tree or DMI product name, "" if unknown
        "arch": "string",  # x86_64, aarch64, armv7l, ...
        "os": "string",
        "labels": MapType("string"),
        "cpu": RecordType(
            {
                "cores": "double",  # what cgroup quota and affinity grant, may be fractional
                "features": ListType("string"),  # such as "avx512_vnni", "asimddp"
                "model": "string",
            }
        ),
        "memory_mb": "double",  # what the cgroup grants
        "accelerators": ListType("string"),  # such as "nvidia", "openvino:GPU"
        "throttled": "bool",
        "on_battery": "bool",
    }
)

TRAFFIC = RecordType({"rate_rps": "double", "queue": "double", "in_flight": "double"})
LATENCY = RecordType({"p50_ms": "double", "p95_ms": "double", "p99_ms": "double"})
CHECK = RecordType(
    {
        "state": "string",  # off | ok | warn | alarm | acknowledged
        "phase": "string",  # collecting | calibrating | armed
        "score": "double",
        "p_val": "double",
    }
)
FEEDBACK = RecordType({"labels": "double", "unmatched": "double", "accuracy": "double"})
MODEL = RecordType({"name": "string", "version": "string", "variant": "string"})

VARIABLES: dict[str, Type] = {
    "host": HOST,
    "traffic": TRAFFIC,
    "latency": LATENCY,
    "checks": MapType(CHECK),  # keys must be names of configured checks
    "feedback": FEEDBACK,
    "model": MODEL,
}

# What each place of a policy may name.
TARGET_VARIABLES: frozenset[str] = frozenset({"host"})
ADAPT_VARIABLES: frozenset[str] = frozenset(VARIABLES)
RETRAIN_VARIABLES: frozenset[str] = frozenset({"feedback", "checks", "model"})
