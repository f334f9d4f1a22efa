"""The dashboard's files and the routes that it asks, of the real application."""

from __future__ import annotations

import re

import pytest

from scanflow_serve.serving.http.ui import ASSETS, FOLDER
from scanflow_serve.serving.keys import new_key

KEYS = "serve: {auth: {keys_from_env: KEYS}}"


def test_the_page_runs_nothing_that_is_written_into_it_or_comes_from_elsewhere(serve):
    page = serve().get("/ui")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert re.findall(r"<script\b[^>]*>([^<]*)", page.text) == [""]
    assert not re.search(r"\son\w+=|style=|https?://", page.text)


def test_every_part_that_the_page_and_its_modules_name_is_served(serve):
    client = serve()
    named = set(re.findall(r'(?:href|src)="ui/([\w.]+)"', client.get("/ui").text))
    assert named == {"app.js", "style.css", "icon.svg"}
    for name, asset in ASSETS.items():
        named |= set(re.findall(r'from "\./([\w.]+)"', asset.body.decode()))
        assert client.get(f"/ui/{name}").content == (FOLDER / name).read_bytes()
    assert named <= set(ASSETS)
    assert set(ASSETS) - named == {"index.html"}


def test_scripts_and_styles_have_their_types(serve):
    client = serve()
    assert client.get("/ui/app.js").headers["content-type"].startswith("text/javascript")
    assert client.get("/ui/style.css").headers["content-type"].startswith("text/css")
    assert client.get("/ui/app.js").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        *("/ui/none.js", "/ui/..%2fcli.py", "/ui/%2e%2e/cli.py", "/ui/../cli.py"),
        *("/ui/%2fetc%2fpasswd", "/ui/__init__.py", "/ui/"),
    ],
)
def test_nothing_but_the_page_is_served(serve, path):
    assert serve().get(path).status_code == 404


def test_what_a_browser_has_is_not_sent_again(serve):
    client = serve()
    first = client.get("/ui/app.js")
    tag = first.headers["etag"]
    again = client.get("/ui/app.js", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == tag
    assert first.headers["cache-control"] == "no-cache"
    changed = client.get("/ui/app.js", headers={"If-None-Match": '"other"'})
    assert changed.content == first.content


def test_files_that_differ_have_tags_that_differ():
    assert len({asset.tag for asset in ASSETS.values()}) == len(ASSETS)


def test_the_page_needs_no_key_but_its_figures_do(serve):
    secret, line = new_key("reader", ["predict"])
    client = serve(KEYS, environ={"KEYS": line})
    assert client.get("/ui").status_code == 200
    assert client.get("/ui/app.js").status_code == 200
    for path in ("/stats", "/plan", "/checks"):
        assert client.get(path).status_code == 401
        reply = client.get(path, headers={"Authorization": f"Bearer {secret}"})
        assert reply.status_code == 200


def test_statistics_are_of_inferences_alone(serve, row):
    client = serve()
    for _ in range(3):
        client.post("/predict", json={"inputs": [row, row]})
    client.post("/invocations", json={"inputs": [row]})
    client.post("/predict", json={"inputs": "none"})
    client.get("/plan")
    traffic = client.app.application.metrics.traffic
    traffic.sample()
    traffic.sample()
    told = client.get("/stats").json()
    assert told["interval_s"] == 5.0
    first, second = told["points"]
    assert (first["requests"], first["failed"], first["rows"]) == (4, 1, 7)
    assert 0 < first["p50_ms"] <= first["p95_ms"] <= first["p99_ms"]
    assert (second["requests"], second["rows"], second["p50_ms"]) == (0, 0, None)


def test_statistics_tell_who_answered_and_only_what_is_new_where_asked(serve, row):
    client = serve()
    client.post("/predict", json={"inputs": [row]})
    traffic = client.app.application.metrics.traffic
    traffic.sample()
    (point,) = client.get("/stats").json()["points"]
    assert point["variants"] == {client.engine.plan.chosen.variant_id: 1}
    assert (point["missed"], point["queued"]) == (0, 1)
    assert client.get(f"/stats?after={point['at']}").json()["points"] == []
    assert client.get(f"/stats?after={point['at'] - 1}").json()["points"] == [point]
    for wrong in ("soon", "nan", "inf", ""):
        reply = client.get(f"/stats?after={wrong}")
        assert reply.status_code == 400
        assert reply.json()["detail"].startswith("after must be a time as `at` tells it")
