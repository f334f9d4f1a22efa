"""``/checks``: the state of the checks on live traffic, and what people may say to them."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.watch import Watch
from scanflow_serve.runtime.events import iso_time
from scanflow_serve.serving.http.exchange import Exchange, Reply, json_reply, parse_json, shown
from scanflow_serve.serving.http.site import Site

NONE = "This policy has no checks. Add a checks section."
LONGEST = 1000  # characters of a reason


async def checks(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /checks``: all of them, and where the model stands."""
    del exchange
    host = site.checks
    if host is None:
        return json_reply({"state": "off", "checks": []})
    standing = host.standing
    return json_reply(
        {
            "state": host.state,
            "wealth": standing.wealth,
            "run_length": host.run_length,
            "shares": dict(standing.shares),
            "rows": host.rows,
            "waiting_rows": host.tap.waiting_rows,
            "dropped_rows": host.tap.dropped_rows,
            "checks": [check_json(host, watch) for watch in host.watches],
        }
    )


async def check(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /checks/{check}``."""
    host, watch = _named(site, exchange)
    return json_reply(check_json(host, watch))


async def history(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /checks/{check}/history``: points for a plot, the oldest first."""
    host, watch = _named(site, exchange)
    after = exchange.query.get("after", "")
    points = []
    for point in reversed(tuple(watch.history)):
        if (at := iso_time(point.at)) <= after:  # both RFC 3339 in UTC: order of text is of time
            break
        points.append({**point._asdict(), "at": at})
    points.reverse()
    return json_reply({"name": watch.name, "threshold": _threshold(host, watch), "points": points})


async def rows(site: Site, exchange: Exchange) -> Reply:
    """Answer ``GET /checks/{check}/rows``: the latest that it flagged, the newest first."""
    host, watch = _named(site, exchange)
    classes = host.subject.classes
    explained = {each.id: each.to_json() for each in getattr(watch.check, "explanations", ())}
    found = [
        {
            **row.to_json(),
            "explanation": explained.get(row.id),
            "at": iso_time(row.at),
            "label": row.predicted
            if classes is None or row.predicted is None
            else classes[row.predicted],
        }
        for row in watch.flagged.after(exchange.query.get("after", ""))
    ]
    return json_reply({"name": watch.name, "rows": found})


async def acknowledge(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /checks/{check}/ack``: a person has seen the alarm."""
    host, watch = _named(site, exchange)
    who, reason = _said(await exchange.body(), exchange.client)
    try:
        await asyncio.to_thread(host.acknowledge, watch.name, who, reason)
    except ValueError as error:
        raise RequestError(409, f"{watch.name}: {error}") from None
    return json_reply(check_json(host, watch))


async def rebase(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /checks/{check}/rebase``: learn normal times anew, from live traffic."""
    host, watch = _named(site, exchange)
    who, reason = _said(await exchange.body(), exchange.client)
    try:
        await asyncio.to_thread(host.rebase, watch.name, who, reason)
    except ValueError as error:
        raise RequestError(409, f"{watch.name}: {error}") from None
    return json_reply(check_json(host, watch))


def check_json(host: Host, watch: Watch) -> dict[str, Any]:
    """Return one check as JSON."""
    life, reading = watch.life, watch.reading
    seen = life.acknowledged
    return {
        "name": watch.name,
        "type": watch.configured.kind,
        "phase": life.phase,
        "state": life.state,
        "score": watch.score,
        "threshold": _threshold(host, watch),
        "p_val": None if reading is None else reading.p_val,
        "since": iso_time(life.since),
        "why": life.why or ("" if reading is None else reading.why),
        "cautions": list(getattr(watch.check, "cautions", ())),
        "rows": watch.rows,
        "alarms": life.alarms,
        "disabled": life.disabled,
        "inline": watch.inline,
        "acknowledged": None if seen is None else {**asdict(seen), "at": iso_time(seen.at)},
        "evidence": None if life.evidence is None else _evidence(life.evidence),
        "explanations": [each.to_json() for each in getattr(watch.check, "explanations", ())],
    }


def _evidence(evidence: Any) -> dict[str, Any]:
    told = asdict(evidence)
    if evidence.since_at is not None:
        told["since_at"] = iso_time(evidence.since_at)
    return told


def _threshold(host: Host, watch: Watch) -> float | None:
    """Return what its score is held against; None where its own rule decides."""
    bets = watch.reading is not None and watch.reading.wealth is not None
    return host.run_length if bets else None


def _named(site: Site, exchange: Exchange) -> tuple[Host, Watch]:
    name = exchange.params["check"]
    if site.checks is None:
        raise RequestError(404, NONE)
    watch = site.checks.watch(name)
    if watch is None:
        known = ", ".join(each.name for each in site.checks.watches)
        raise RequestError(404, f"Check {name!r} is unknown. Configured: {known}.")
    return site.checks, watch


def _said(body: bytes, client: str) -> tuple[str, str]:
    """Return who says it, by default the key's name or the peer's address, and why.

    Raises:
        RequestError: 400, there is no reason, or a member is no text.
    """
    document = parse_json(body)
    if type(document) is not dict or not document.keys() <= {"who", "reason"}:
        raise RequestError(
            400, f'body must be {{"reason": "…", "who": "…"}}, got {shown(document)}.'
        )
    return _text(document.get("who", client), "who"), _text(document.get("reason"), "reason")


def _text(value: Any, key: str) -> str:
    if type(value) is not str or not 0 < len(value) <= LONGEST:
        raise RequestError(
            400, f"{key} must be a text of 1 to {LONGEST} characters, got {shown(value)}."
        )
    return value
