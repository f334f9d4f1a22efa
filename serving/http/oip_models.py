"""OIP v2 beside inference: server and model metadata, health, repository index, statistics."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from typing import TYPE_CHECKING

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.tensors import TensorSpec
from scanflow_serve.runtime.workflow import graph
from scanflow_serve.serving.http.exchange import Exchange, Reply, json_reply, parse_json, shown
from scanflow_serve.serving.http.oip_tensors import datatype
from scanflow_serve.serving.http.site import Site

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Served

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository", "statistics")


def server_metadata() -> Reply:
    """Return the server's name, version and extensions."""
    return json_reply(
        {
            "name": "scanflow-serve",
            "version": version("scanflow-serve"),
            "extensions": EXTENSIONS,
        }
    )


def health(ready: bool, status: int) -> Reply:
    """Return server health: the protocol's text says ``live``, KServe's SDK reads ``ready``."""
    return json_reply({"live": True, "ready": ready}, status)


def _tensor(spec: TensorSpec) -> dict[str, object]:
    free = [-1, *(-1 if n is None else n for n in spec.shape[1:])]
    return {"name": spec.name, "datatype": datatype(spec), "shape": free if spec.shape else []}


def metadata(served: Served) -> dict[str, object]:
    """Return a model's metadata; the batch is -1 even where the model has it fixed."""
    return {
        "name": served.name,
        "versions": [served.version],
        "platform": f"scanflow_{served.kind}",
        "inputs": [_tensor(spec) for spec in served.signature.inputs],
        "outputs": [_tensor(spec) for spec in served.signature.outputs],
        "parameters": {
            "variant": served.pipeline.candidate.variant_id,
            "labels": ",".join(served.labels or ()),
        },
    }


async def model_metadata(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /v2/models/{model}``."""
    return json_reply(metadata(site.named(exchange.params)))


async def model_ready(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /v2/models/{model}/ready``."""
    served = site.named(exchange.params)
    return json_reply({"name": served.name, "ready": True})


async def model_statistics(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /v2/models/{model}/stats``."""
    served = site.named(exchange.params)
    tally = site.metrics.tally(served.name)
    return json_reply({"model_stats": [tally.to_json(served.name, served.version)]})


async def all_statistics(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /v2/models/stats``."""
    del exchange
    entries = (site.engine.served(name) for name in site.engine.names())
    return json_reply(
        {
            "model_stats": [
                site.metrics.tally(served.name).to_json(served.name, served.version)
                for served in entries
            ]
        }
    )


async def repository_index(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /v2/repository/index``: all names of the policy, and which are loaded."""
    body = await exchange.body()
    asked = parse_json(body) if body.strip() else {}
    if type(asked) is not dict or type(asked.get("ready", False)) is not bool:
        raise RequestError(
            400, f'body must be {{"ready": true or false}}, or empty, got {shown(asked)}.'
        )
    loaded = [site.engine.served(name) for name in site.engine.names()]
    index = [
        {"name": served.name, "version": served.version, "state": "READY", "reason": ""}
        for served in loaded
    ]
    if not asked.get("ready", False):
        index += _not_loaded(site, {served.name for served in loaded})
    return json_reply(index)


def _not_loaded(site: Site, loaded: set[str]) -> list[dict[str, str]]:
    policy = site.engine.policy_file.policy
    running = graph.alternative(policy, site.engine.plan.chosen.run).workflows
    versions = dict.fromkeys(policy.workflows, "1")
    versions |= {name: model.version for name, model in policy.models.items()}
    return [
        {
            "name": name,
            "version": versions[name],
            "state": "UNAVAILABLE",
            "reason": _reason(name, running),
        }
        for name in versions
        if name not in loaded
    ]


def _reason(name: str, running: Collection[str]) -> str:
    if name in running:
        return "runs as a part of the policy's run, has no name of its own on this host"
    return "not loaded on this host: the plan chose otherwise"
