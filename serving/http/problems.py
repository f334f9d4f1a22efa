"""Errors on the wire: ``{"error"}`` below /v2 as OIP says, RFC 9457 problems elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import orjson

from scanflow_serve.policies.errors import PolicyError, RequestError
from scanflow_serve.serving.http.exchange import JSON, Headers, Reply

PROBLEM = b"application/problem+json"


def is_oip(path: str) -> bool:
    """Return whether errors at *path* have the Open Inference Protocol's shape."""
    return path == "/v2" or path.startswith("/v2/")


def problem(
    path: str,
    status: int,
    detail: str,
    *,
    retry_after_s: float | None = None,
    instance: str | None = None,
    headers: Headers | None = None,
    members: Mapping[str, Any] | None = None,
) -> Reply:
    """Return the reply that tells of an error at *path*.

    Args:
        detail: Where, the rule, what was got, what to do.
        retry_after_s: Rounded up to whole seconds, at least 1; 429, 503 and 504 always have one.
        instance: Names this occurrence, as the log does.
        members: Of the problem, beside RFC 9457's own.
    """
    extra: Headers = list(headers or ())
    if retry_after_s is not None or status in (429, 503, 504):
        extra.append((b"retry-after", str(max(1, math.ceil(retry_after_s or 1))).encode()))
    if is_oip(path):
        return Reply(status, orjson.dumps({"error": detail}), JSON, extra)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **(members or {}),
    }
    if instance is not None:
        body["instance"] = instance
    return Reply(status, orjson.dumps(body), PROBLEM, extra)


def refusal(path: str, error: RequestError) -> Reply:
    """Return the reply that tells of a refused request."""
    headers: Headers = []
    if error.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="scanflow"'))
    if error.status == 408:
        headers.append((b"connection", b"close"))  # RFC 9110, 15.5.9; frees the socket as well
    return problem(
        path, error.status, error.detail, retry_after_s=error.retry_after_s, headers=headers
    )


def faults(path: str, error: PolicyError) -> Reply:
    """Return the reply that tells of every fault of a policy, each with its place."""
    found = [asdict(fault) for fault in error.faults]
    return problem(path, error.status, str(error), members={"faults": found})
