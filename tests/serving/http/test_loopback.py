from __future__ import annotations

import pytest

from scanflow_serve.serving.keys import new_key


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:3000", "127.0.0.1", "127.0.0.1:3000", "127.8.9.10:1", "[::1]:3000"],
)
def test_a_loopback_host_is_answered(serve, row, host):
    client = serve()
    assert client.post("/predict", json={"inputs": row}, headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/plan", "/livez", "/v2/health/live", "/docs", "/nothing"])
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:3000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("evil.example@localhost", "10.0.0.7", "0.0.0.0", "[::2]", "localhost:3000:x", ""),
    ],
)
def test_another_host_is_421_on_every_route_of_a_keyless_server(serve, path, host):
    reply = serve().get(path, headers={"host": host})
    assert reply.status_code == 421
    told = reply.json()["error" if path.startswith("/v2") else "detail"]
    assert "Host must be localhost, 127.0.0.0/8 or [::1]" in told
    assert "set serve.auth in the policy" in told


@pytest.mark.parametrize("path", ["/predict", "/v2/models/digits/infer", "/v2/repository/index"])
def test_a_page_of_another_site_can_not_post_to_a_keyless_server(serve, path):
    client = serve()
    reply = client.post(path, json={}, headers={"sec-fetch-site": "cross-site"})
    assert reply.status_code == 403
    for site in ("same-origin", "same-site", "none"):
        assert client.post(path, json={}, headers={"sec-fetch-site": site}).status_code != 403
    assert client.get("/docs", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_where_the_policy_says_who_may_come_in_any_host_is_answered(serve):
    _, line = new_key("a", ["predict"])
    headers = {"host": "models.example", "sec-fetch-site": "cross-site"}
    for section in ("serve: {auth: none}", "serve: {auth: {keys_from_env: KEYS}}"):
        client = serve(section, environ={"KEYS": line})
        assert client.get("/livez", headers=headers).status_code == 200
        assert client.post("/predict", json={}, headers=headers).status_code in (400, 401)
