"""What runs here and why: host, plan, policy, metrics; and whether it runs at all."""

from __future__ import annotations

import hashlib
import math
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import orjson

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.serving.http import oip_models
from scanflow_serve.serving.http.exchange import TEXT, Exchange, Reply, json_reply, shown
from scanflow_serve.serving.http.problems import problem
from scanflow_serve.serving.http.site import Site

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine
    from scanflow_serve.runtime.plan import Plan

EXPOSITION = b"text/plain; version=1.0.0; charset=utf-8"  # prometheus_client's text format
STARTING = "The server is starting or stopping; it answers once its models are loaded. Retry."


async def host(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /host``."""
    del exchange
    return json_reply(site.engine.host.to_json())


async def plan(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /plan``: what was decided at the start, and what since."""
    del exchange
    engine = site.engine
    return json_reply({"digest": digest(engine.plan), **engine.plan.to_json(), **engine.state()})


def digest(plan: Plan) -> str:
    """Return what tells one plan from another: SHA-256, hex, of its JSON form."""
    canonical = orjson.dumps(plan.to_json(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def summary(engine: Engine) -> dict[str, Any]:
    """Return what runs, in short: the policy, its plan, the chosen candidate."""
    plan = engine.plan
    return {
        "policy": {"name": plan.policy, "digest": engine.policy_file.digest},
        "plan": {
            "digest": digest(plan),
            "run": plan.run,
            "chosen": plan.chosen.id,
            "feasible": plan.feasible,
            "notes": list(plan.notes),
        },
    }


async def policy(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /policy``: the file's text as written, ``${ENV}`` not expanded."""
    del exchange
    loaded = site.engine.policy_file
    return json_reply(
        {
            "name": loaded.policy.name,
            "file": loaded.path.name,
            "digest": loaded.digest,
            "text": loaded.text,
        }
    )


async def metrics(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /metrics``."""
    del exchange
    return Reply(200, site.metrics.exposition(), EXPOSITION)


async def stats(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /stats``: traffic and latency over the last hour, or since ``?after=``."""
    return json_reply(site.metrics.traffic.to_json(_seconds(exchange.query.get("after"))))


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        at = float(text)
    except ValueError:
        at = math.nan
    if not math.isfinite(at):
        raise RequestError(
            400,
            f"after must be a time as `at` tells it, in s, got {shown(text)}. Leave it out for"
            " the whole hour.",
        )
    return at


def live(ready: bool) -> Reply:
    """Answer ``GET /livez``: the process answers."""
    del ready
    return json_reply({"live": True})


def readiness(ready: bool) -> Reply:
    """Answer ``GET /readyz``: 503 until predictions are answered."""
    return json_reply({"ready": True}) if ready else problem("/readyz", 503, STARTING)


def oip_live(ready: bool) -> Reply:
    """Answer ``GET /v2/health/live``."""
    return oip_models.health(ready, 200)


def oip_ready(ready: bool) -> Reply:
    """Answer ``GET /v2/health/ready``: 503 until predictions are answered."""
    if ready:
        return oip_models.health(True, 200)
    return json_reply({"live": True, "ready": False, "error": STARTING}, 503)


def oip_server(ready: bool) -> Reply:
    """Answer ``GET /v2``."""
    del ready
    return oip_models.server_metadata()


def ping(ready: bool) -> Reply:
    """Answer MLflow's ``GET /ping``: 503 until predictions are answered."""
    return Reply(200, b"\n", TEXT) if ready else problem("/ping", 503, STARTING)


def mlflow_version(ready: bool) -> Reply:
    """Answer MLflow's ``GET /version``: this server's version."""
    del ready
    return Reply(200, version("scanflow-serve").encode(), TEXT)


def home(ready: bool) -> Reply:
    """Answer ``GET /``: go to the documentation."""
    del ready
    return Reply(307, b"", TEXT, [(b"location", b"docs")])
