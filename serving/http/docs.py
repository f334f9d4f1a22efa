"""``/docs`` and ``/openapi.json``: the description of the routes, for people without a network."""

from __future__ import annotations

import html
from typing import Any

import orjson

from scanflow_serve.serving.http.exchange import Exchange, Reply, json_reply
from scanflow_serve.serving.http.openapi import document
from scanflow_serve.serving.http.site import Site

HTML = b"text/html; charset=utf-8"
POLICY = b"default-src 'none'; style-src 'unsafe-inline'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
summary { cursor: pointer; padding: .3rem 0 } code { font-weight: 600 }
pre { overflow: auto; background: #8882; padding: .6rem; font-size: 13px }
:root { color-scheme: light dark }
"""


async def openapi_json(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /openapi.json``."""
    del exchange
    return json_reply(document(site))


async def docs_page(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /docs``: one page, nothing loaded from elsewhere."""
    del exchange
    described = document(site)
    title = html.escape(described["info"]["title"])
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><h1>{title} {html.escape(described['info']['version'])}</h1>"
        f"<p>{html.escape(described['info']['description'])}</p>"
        f'<p>Machine-readable: <a href="openapi.json">openapi.json</a></p>{operations}</html>'
    )
    return Reply(200, page.encode(), HTML, [(b"content-security-policy", POLICY)])


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    shown = orjson.dumps(operation, option=orjson.OPT_INDENT_2).decode()
    return (
        f"<details><summary><code>{method.upper()} {html.escape(path)}</code>"
        f" {html.escape(operation['summary'])}</summary><pre>{html.escape(shown)}</pre></details>"
    )
