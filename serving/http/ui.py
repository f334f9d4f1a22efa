"""``/ui``: the dashboard, a page of static files that asks the other routes for what it shows.

The files hold nothing of the server's and ask for no key, as no browser could send one with a
link; the page asks its reader for the key that the data need.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.serving.http.exchange import Exchange, Headers, Reply
from scanflow_serve.serving.http.site import Site

FOLDER = Path(__file__).parents[1] / "ui"
PAGE = "index.html"
TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
# Nothing from elsewhere, and nothing written into the page, is run.
SECURITY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    b" img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page.

    Attributes:
        tag: Its ``ETag``; weak, because bodies may be sent compressed.
    """

    body: bytes
    content_type: bytes
    tag: str


def _read(folder: Path) -> dict[str, Asset]:
    """Return the files of the page by name: only these are ever sent."""
    assets = {}
    for path in folder.iterdir():
        if path.suffix in TYPES:
            body = path.read_bytes()
            tag = f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'
            assets[path.name] = Asset(body, TYPES[path.suffix], tag)
    return assets


ASSETS = _read(FOLDER)


async def page(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /ui``."""
    del site
    return _reply(ASSETS[PAGE], exchange)


async def asset(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /ui/{asset}``.

    Raises:
        RequestError: 404, the page has no such file.
    """
    del site
    found = ASSETS.get(exchange.params["asset"])
    if found is None:
        raise RequestError(404, f"{exchange.path[:200]!r} is no part of the page at /ui.")
    return _reply(found, exchange)


def _reply(asset: Asset, exchange: Exchange) -> Reply:
    headers: Headers = [
        (b"etag", asset.tag.encode()),
        (b"cache-control", b"no-cache"),  # kept, but asked for again: a new version is seen at once
        (b"content-security-policy", SECURITY),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
    known = (exchange.header(b"if-none-match") or "").split(",")
    if any(each.strip() in (asset.tag, asset.tag[2:], "*") for each in known):
        return Reply(304, b"", asset.content_type, headers)
    return Reply(200, asset.body, asset.content_type, headers)
