"""The OpenAPI description of ``/checks``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scanflow_serve.serving.http import openapi_schemas as schemas
from scanflow_serve.serving.http.site import Site

Json = dict[str, Any]

LOADED = (500, 503)
TEXT = {"type": "string"}
NUMBER = {"type": ["number", "null"]}
CHECK: Json = {
    "type": "object",
    "required": ["name", "type", "phase", "state", "score", "threshold", "p_val", "since"],
    "properties": {
        "name": TEXT,
        "type": TEXT,
        "phase": {"type": "string", "enum": ["collecting", "calibrating", "armed"]},
        "state": {"type": "string", "enum": ["off", "ok", "warn", "alarm", "acknowledged"]},
        "score": {"type": "number"},
        "threshold": NUMBER,
        "p_val": NUMBER,
        "since": {"type": "string", "format": "date-time"},
        "why": TEXT,
        "cautions": {"type": "array", "items": TEXT},
        "evidence": {"type": ["object", "null"]},
        "inline": {
            "type": "boolean",
            "description": "It works before inference, by a schema: it can't be rebased.",
        },
    },
}
CHECKS: Json = {
    "type": "object",
    "required": ["state", "checks"],
    "properties": {"state": CHECK["properties"]["state"], "checks": {"type": "array"}},
}
HISTORY: Json = {
    "type": "object",
    "properties": {"name": TEXT, "threshold": NUMBER, "points": {"type": "array"}},
}
ROWS: Json = {
    "type": "object",
    "required": ["name", "rows"],
    "properties": {"name": TEXT, "rows": {"type": "array", "items": {"type": "object"}}},
}
AFTER: Json = {
    "name": "after",
    "in": "query",
    "description": "Id of a row: only what was flagged since is told.",
    "schema": TEXT,
}
SINCE: Json = {
    "name": "after",
    "in": "query",
    "description": "The `at` of a point: only later ones are told.",
    "schema": TEXT,
}
SAID: Json = {
    "type": "object",
    "required": ["reason"],
    "additionalProperties": False,
    "properties": {
        "reason": {"type": "string", "minLength": 1, "maxLength": 1000},
        "who": {"type": "string", "minLength": 1, "maxLength": 1000},
    },
}


def check_operations(site: Site, operation: Callable[..., Json]) -> Json:
    """Return path -> method -> operation.

    Args:
        operation: `openapi.operation`.
    """
    names = [] if site.checks is None else [watch.name for watch in site.checks.watches]
    parameter = schemas.path_parameter("check", names)
    if not names:
        parameter["schema"] = TEXT
    named = (parameter,)
    rows, points = (parameter, AFTER), (parameter, SINCE)
    said = {"required": True, "content": _json(SAID)}
    one, told = "/checks/{check}", _json(CHECK)
    writing = (400, 404, 409, 413, 415, *LOADED)
    acknowledged, rebased = "Say that an alarm was seen", "Learn normal times anew"
    return {
        "/checks": {"get": operation("/checks", "Checks on live traffic", _json(CHECKS), LOADED)},
        one: {"get": operation(one, "One check", told, (404, *LOADED), named)},
        f"{one}/history": {
            "get": operation(
                f"{one}/history", "Its score over time", _json(HISTORY), (404, *LOADED), points
            )
        },
        f"{one}/rows": {
            "get": operation(
                f"{one}/rows", "The latest rows that it flagged", _json(ROWS), (404, *LOADED), rows
            )
        },
        f"{one}/ack": {"post": operation(f"{one}/ack", acknowledged, told, writing, named, said)},
        f"{one}/rebase": {"post": operation(f"{one}/rebase", rebased, told, writing, named, said)},
    }


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
