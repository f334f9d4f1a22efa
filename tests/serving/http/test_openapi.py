from __future__ import annotations

import re

import pytest

from scanflow_serve.serving.http.oip_infer import LENGTH
from scanflow_serve.serving.http.routes import ROUTES, Router
from scanflow_serve.serving.keys import new_key


def test_every_route_is_described_and_nothing_else(serve):
    described = serve().get("/openapi.json").json()["paths"]
    found = {(m.upper(), path) for path, methods in described.items() for m in methods}
    assert found == {(route.method, route.template) for route in ROUTES}


def test_path_variables_are_declared(serve):
    described = serve().get("/openapi.json").json()["paths"]
    for path, methods in described.items():
        for operation in methods.values():
            given = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
            assert given == set(re.findall(r"{(\w+)}", path))


def test_routes_that_need_a_key_say_so_where_the_policy_has_keys(serve):
    _, line = new_key("a", ["predict"])
    client = serve("serve: {auth: {keys_from_env: KEYS}}", environ={"KEYS": line})
    described = client.get("/openapi.json").json()["paths"]
    for route in ROUTES:
        secured = "security" in described[route.template][route.method.lower()]
        assert secured == (route.access != "open"), route.template


def test_references_resolve(serve):
    client = serve()
    known = client.get("/openapi.json").json()["components"]["schemas"]
    used = set(re.findall(r'#/components/schemas/(\w+)"', client.get("/openapi.json").text))
    assert used == set(known)


def test_the_page_lists_every_route_and_loads_nothing(serve):
    page = serve().get("/docs")
    for route in ROUTES:
        assert f"{route.method} {route.template}</code>" in page.text
    assert "http://" not in page.text
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_example_of_an_inference_has_two_rows_and_is_answered(serve):
    client = serve()
    described = client.get("/openapi.json").json()["paths"]
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        operation = described[path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        at = path.replace("{model}", "digits").replace("{version}", "1")
        reply = client.post(at, json=example)
        assert reply.json()["outputs"][0]["shape"] == [2, 10]
        headers = {p["name"].lower() for p in operation["parameters"] if p["in"] == "header"}
        assert LENGTH.decode() in headers


@pytest.mark.parametrize(
    ("path", "template", "params"),
    [
        ("/v2/models/stats", "/v2/models/stats", {}),
        ("/v2/models/a", "/v2/models/{model}", {"model": "a"}),
        (
            "/v2/models/a/versions/2/infer",
            "/v2/models/{model}/versions/{version}/infer",
            {"model": "a", "version": "2"},
        ),
        ("/v2/models/a/stats", "/v2/models/{model}/stats", {"model": "a"}),
    ],
)
def test_a_path_finds_its_template(path, template, params):
    methods, found = Router().match(path)
    assert methods is not None
    assert {route.template for route in methods.values()} == {template}
    assert found == params


@pytest.mark.parametrize("path", ["", "/v2/", "/v2/models/", "/v2/models//infer", "/v2/models/a/b"])
def test_a_path_that_is_none_finds_nothing(path):
    assert Router().match(path)[0] is None
