"""What an operator changes while the server runs: what is loaded, what is pinned, the policy.

Source:
    https://github.com/triton-inference-server/server/blob/main/docs/protocol/
    extension_model_repository.md
"""

from __future__ import annotations

from typing import Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.serving.http.exchange import Exchange, Reply, json_reply, parse_json, shown
from scanflow_serve.serving.http.oip_infer import parameters_of
from scanflow_serve.serving.http.site import Site

YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml", "text/plain")


async def load(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /v2/repository/models/{model}/load``."""
    if given := await _parameters(exchange):
        raise RequestError(
            400,
            f"parameters must be empty: what is loaded is the policy's, got {shown([*given])}. "
            "Change the policy by PUT /policy.",
        )
    await site.engine.load(exchange.params["model"])
    return json_reply({})


async def unload(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /v2/repository/models/{model}/unload``."""
    given = await _parameters(exchange)
    if given.keys() - {"unload_dependents"}:
        raise RequestError(
            400, f"parameters must be empty or have unload_dependents, got {shown([*given])}."
        )
    await site.engine.unload(exchange.params["model"])
    return json_reply({})


async def _parameters(exchange: Exchange) -> dict[str, Any]:
    body = await exchange.body()
    document = parse_json(body) if body.strip() else {}
    if type(document) is not dict or document.keys() - {"parameters"}:
        raise RequestError(
            400, f'body must be {{"parameters": {{…}}}}, or empty, got {shown(document)}.'
        )
    return parameters_of(document, "")


async def pin(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /plan/pin``."""
    document = parse_json(await exchange.body())
    what = document.get("variant") if type(document) is dict else None
    if (
        type(document) is not dict
        or document.keys() != {"variant"}
        or not isinstance(what, str | None)
    ):
        raise RequestError(
            400,
            'body must be {"variant": "ID or MODEL"} to pin, {"variant": null} to unpin, got'
            f" {shown(document)}.",
        )
    site.engine.pin(what)
    return json_reply({"pinned": what})


async def put_policy(site: Site, exchange: Exchange) -> Reply:
    """Answer ``PUT /policy``: once the policy serves, or as soon as it can't."""
    return json_reply(await site.reload(policy_text(await exchange.body(), exchange.media_type)))


def policy_text(body: bytes, media_type: str) -> str:
    """Return the policy's text in a body: the YAML itself, or JSON with it as ``text``.

    Raises:
        RequestError: 400, neither; 415, another media type.
    """
    if media_type == "application/json":
        document = parse_json(body)
        text = document.get("text") if type(document) is dict else None
        if type(document) is not dict or document.keys() != {"text"} or type(text) is not str:
            raise RequestError(
                400, f'body must be {{"text": "the policy, in YAML"}}, got {shown(document)}.'
            )
        return text
    if media_type not in (*YAML, ""):
        raise RequestError(
            415,
            f"Content-Type must be {YAML[0]} or application/json, got {shown(media_type)}.",
        )
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(
            400, f"body must be UTF-8, got byte 0x{body[error.start]:02x} at {error.start}."
        ) from None
