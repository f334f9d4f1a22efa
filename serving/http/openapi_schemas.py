"""JSON Schemas and parameters that are the same for every policy."""

from __future__ import annotations

from typing import Any

from scanflow_serve.serving.http.oip_tensors import DATATYPES

Json = dict[str, Any]

BINARY: Json = {"type": "string", "format": "binary"}
COUNT: Json = {"type": "integer", "minimum": 0}
TEXT: Json = {"type": "string"}


def ref(name: str) -> Json:
    """Return the reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(members: Json, optional: tuple[str, ...] = (), *, closed: bool = False) -> Json:
    """Return the schema of an object whose members are all required but the *optional* ones."""
    required = [name for name in members if name not in optional]
    schema: Json = {"type": "object", "properties": members, "required": required}
    return schema | {"additionalProperties": False} if closed else schema


def items(schema: Json) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": schema}


def path_parameter(name: str, values: list[str]) -> Json:
    """Return a path variable that takes the given values."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "enum": values},
    }


REQUEST_HEADERS: tuple[Json, ...] = (
    {
        "name": "Scanflow-Deadline-Ms",
        "in": "header",
        "description": "Budget of this request, in ms; refused with 504 if it can't be met.",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "example": 1000,
    },
    {
        "name": "Scanflow-Prefer",
        "in": "header",
        "description": "Over the policy's rules and objective.",
        "schema": {"type": "string", "enum": ["latency", "accuracy"]},
    },
    {
        "name": "Scanflow-Session",
        "in": "header",
        "description": "The sensor or stream that the rows belong to, for checks of sequences.",
        "schema": {"type": "string", "maxLength": 128},
    },
)

BINARY_HEADER: Json = {
    "name": "Inference-Header-Content-Length",
    "in": "header",
    "description": "Bytes of JSON before the binary tensors; 0: the body is the only input's bytes."
    " Without it all of the body is JSON.",
    "schema": {"type": "integer", "minimum": 0},
}

_TENSOR = record(
    {
        "name": TEXT,
        "datatype": {"enum": sorted(DATATYPES.values())},
        "shape": items({"type": "integer"}),
    }
)
_DURATION = record({"count": COUNT, "ns": COUNT})
_COUNTS = ("at", "requests", "failed", "rows", "missed", "queued")
_STAGES = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)
_STATES: Json = {
    "type": "object",
    "description": "Of each check on live traffic, by name, as last seen.",
    "additionalProperties": TEXT,
}
_ONE_OR_MORE: Json = {"type": ["string", "array"], "items": TEXT}

COMPONENTS: Json = {
    "Problem": record(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": TEXT,
            "status": {"type": "integer"},
            "detail": TEXT,
            "instance": TEXT,
        },
        optional=("instance",),
    ),
    "OipError": record({"error": TEXT}),
    "Prediction": record(
        {
            "id": _ONE_OR_MORE | {"description": "One a row; for /feedback."},
            "label": {"description": "Class names or indices; null without a class output."},
            "outputs": {"type": "object"},
            "model": TEXT,
            "version": TEXT,
            "variant": TEXT,
            "workflow": TEXT,
            "latency_ms": {"type": "number", "minimum": 0},
            "checks": {"type": "array", "description": "What integrity checks found, by row."},
            "check_states": _STATES,
            "p_val": {"type": "object", "description": "By check: one a row, 0 to 1."},
        },
        optional=("checks", "check_states", "p_val"),
    ),
    "Invocation": record(
        {
            "predictions": {"type": ["array", "object"]},
            "scanflow_prediction_ids": items(TEXT) | {"description": "One a row; for /feedback."},
            "scanflow_checks": {"type": "array", "description": "As `checks` of /predict."},
            "scanflow_check_states": _STATES,
            "scanflow_p_val": {"type": "object", "description": "As `p_val` of /predict."},
        },
        optional=("scanflow_checks", "scanflow_check_states", "scanflow_p_val"),
    ),
    "ServerMetadata": record({"name": TEXT, "version": TEXT, "extensions": items(TEXT)}),
    "Health": record(
        {"live": {"type": "boolean"}, "ready": {"type": "boolean"}, "error": TEXT},
        optional=("error",),
    ),
    "Live": record({"live": {"const": True}}),
    "Ready": record({"ready": {"const": True}}),
    "ModelMetadata": record(
        {
            "name": TEXT,
            "versions": items(TEXT),
            "platform": TEXT,
            "inputs": items(_TENSOR),
            "outputs": items(_TENSOR),
            "parameters": {"type": "object"},
        }
    ),
    "ModelReady": record({"name": TEXT, "ready": {"type": "boolean"}}),
    "Statistics": record(
        {
            "model_stats": items(
                record(
                    {
                        "name": TEXT,
                        "version": TEXT,
                        "last_inference": COUNT,
                        "inference_count": COUNT,
                        "execution_count": COUNT,
                        "inference_stats": record(dict.fromkeys(_STAGES, _DURATION)),
                        "batch_stats": items({"type": "object"}),
                    }
                )
            )
        }
    ),
    "IndexEntry": record(
        {
            "name": TEXT,
            "version": TEXT,
            "state": {"enum": ["READY", "UNAVAILABLE"]},
            "reason": TEXT,
        }
    ),
    "InferReply": record(
        {
            "model_name": TEXT,
            "model_version": TEXT,
            "id": TEXT,
            "parameters": {"type": "object"},
            "outputs": items(
                record(
                    {
                        "name": TEXT,
                        "datatype": {"enum": sorted(DATATYPES.values())},
                        "shape": items(COUNT),
                        "data": {"type": "array"},
                        "parameters": {"type": "object"},
                    },
                    optional=("data", "parameters"),
                )
            ),
        },
        optional=("id",),
    ),
    "Traffic": record(
        {
            "interval_s": {"type": "number"},
            "points": {
                "type": "array",
                "items": record(
                    {
                        **{key: {"type": "number"} for key in _COUNTS},
                        "variants": {
                            "type": "object",
                            "description": "Requests answered, by variant.",
                        },
                        **{f"p{q}_ms": {"type": ["number", "null"]} for q in (50, 95, 99)},
                    }
                ),
            },
        }
    ),
    "PolicyText": record({"name": TEXT, "file": TEXT, "digest": TEXT, "text": TEXT}),
    "Plan": record(
        {
            "digest": TEXT,
            "policy": TEXT,
            "objective": TEXT,
            "chosen": {"type": "object"},
            "standbys": items({"type": "object"}),
            "candidates": items({"type": "object"}),
            "lanes": {"description": "What answers each name at present, and what else may."},
            "decisions": items({"type": "object"}) | {"description": "The latest, oldest first."},
        }
    ),
    "Summary": record(
        {
            "policy": record({"name": TEXT, "digest": TEXT}),
            "plan": record(
                {
                    "digest": TEXT,
                    "run": TEXT,
                    "chosen": TEXT,
                    "feasible": {"type": "boolean"},
                    "notes": items(TEXT),
                }
            ),
        }
    ),
    "Pin": record({"pinned": {"type": ["string", "null"]}}),
    "Events": record(
        {
            "events": items(
                record(
                    {
                        "id": COUNT,
                        "time": TEXT | {"format": "date-time"},
                        "kind": TEXT,
                        "source": TEXT,
                        "text": TEXT,
                        "figures": {"type": "object"},
                        "details": {"type": "object"},
                    }
                )
            ),
            "latest": COUNT | {"description": "The last id told; ask for what comes after it."},
        }
    ),
}
INDEX_BODY = record({"ready": {"type": "boolean"}}, optional=("ready",))


def _with_parameters(members: Json) -> Json:
    """Return the schema of a body that may have ``parameters``, all of them optional."""
    inner = record(members, optional=tuple(members), closed=True)
    nullable = inner | {"type": ["object", "null"]}
    return record({"parameters": nullable}, optional=("parameters",), closed=True)


LOAD_BODY = _with_parameters({})
UNLOAD_BODY = _with_parameters({"unload_dependents": {"type": "boolean"}})
POLICY_BODY = record({"text": TEXT}, closed=True)


def pin_body(names: list[str]) -> Json:
    """Return the schema of what is pinned; *names* are those that can be for sure."""
    described = "A variant's or candidate's id, or a model's name; null unpins."
    return record({"variant": {"enum": [*names, None], "description": described}}, closed=True)


EVENT_PARAMETERS: tuple[Json, ...] = (
    {
        "name": "after",
        "in": "query",
        "description": "Id of the last event seen; only later ones are told.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    },
    {
        "name": "limit",
        "in": "query",
        "description": "Events of a list at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 1000},
    },
)
