"""What an operator does while the server runs: load, unload, pin, another policy."""

from __future__ import annotations

import asyncio

import pytest

from scanflow_serve.policies.errors import InfeasibleError, RequestError, StateError
from scanflow_serve.serving.keys import new_key


def told(reply):
    body = reply.json()
    return body["error"] if "error" in body else body["detail"]


# Models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["load", "unload"])
@pytest.mark.parametrize("content", [b"", b"{}", b'{"parameters": {}}', b'{"parameters": null}'])
def test_a_model_is_loaded_and_unloaded_with_or_without_a_body(serve, verb, content):
    client = serve()
    reply = client.post(f"/v2/repository/models/digits-mlp/{verb}", content=content)
    assert (reply.status_code, reply.json()) == (200, {})
    assert client.engine.done == [(verb, "digits-mlp")]


def test_what_tritonclient_says_of_dependents_is_taken(serve):
    body = {"parameters": {"unload_dependents": False}}
    assert serve().post("/v2/repository/models/digits-mlp/unload", json=body).status_code == 200


@pytest.mark.parametrize(
    ("verb", "content", "says"),
    [
        ("load", b'{"parameters": {"config": "{}"}}', "what is loaded is the policy's"),
        ("load", b"[]", 'body must be {"parameters": {…}}, or empty, got []'),
        ("load", b'{"model": 1}', 'body must be {"parameters": {…}}, or empty'),
        ("unload", b'{"parameters": {"config": "{}"}}', "or have unload_dependents"),
        ("unload", b'{"parameters": 3}', "parameters must be an object, got 3"),
    ],
)
def test_what_can_not_be_asked_of_the_repository_is_refused(serve, verb, content, says):
    client = serve()
    reply = client.post(f"/v2/repository/models/digits-mlp/{verb}", content=content)
    assert reply.status_code == 400
    assert says in told(reply)
    assert client.engine.done == []


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_an_unknown_model_is_404(serve, verb):
    assert serve().post(f"/v2/repository/models/nope/{verb}").status_code == 404


# Pins --------------------------------------------------------------------------------------------


def test_a_variant_is_pinned_and_unpinned(serve):
    client = serve()
    reply = client.post("/plan/pin", json={"variant": "digits-mlp"})
    assert reply.json() == {"pinned": "digits-mlp"}
    assert client.post("/plan/pin", json={"variant": None}).json() == {"pinned": None}
    assert client.engine.done == [("pin", "digits-mlp"), ("pin", None)]


@pytest.mark.parametrize("body", [{}, [], {"variant": 3}, {"variant": "a", "for_s": 1}, "a"])
def test_a_pin_that_is_none_is_refused(serve, body):
    client = serve()
    reply = client.post("/plan/pin", json=body)
    assert reply.status_code == 400
    assert 'body must be {"variant": "ID or MODEL"} to pin' in told(reply)
    assert client.engine.done == []


def test_what_is_not_there_can_not_be_pinned(serve):
    assert serve().post("/plan/pin", json={"variant": "nope"}).status_code == 404


# Policies ----------------------------------------------------------------------------------------


def another(client, line="description: another"):
    return f"{client.engine.policy_file.text}\n{line}\n"


@pytest.mark.parametrize("form", ["yaml", "json", "none"])
def test_another_policy_serves_and_the_old_engine_is_closed(serve, row, form):
    client = serve()
    text = another(client)
    reply = {
        "yaml": lambda: client.put(
            "/policy", content=text, headers={"content-type": "application/yaml; charset=utf-8"}
        ),
        "json": lambda: client.put("/policy", json={"text": text}),
        "none": lambda: client.put("/policy", content=text),
    }[form]()
    assert reply.status_code == 200
    (engine,) = client.home.made
    assert reply.json()["policy"] == {"name": "digits", "digest": engine.policy_file.digest}
    plan = client.get("/plan").json()
    assert reply.json()["plan"]["digest"] == plan["digest"]
    assert reply.json()["plan"]["chosen"] == plan["chosen"]["id"]
    assert client.get("/policy").json()["text"] == text
    assert client.home.accepted == [text]
    assert client.post("/predict", json={"inputs": row}).status_code == 200
    assert [len(each.requests) for each in (client.engine, engine)] == [0, 1]
    client.stop()
    assert client.engine.closed
    assert engine.closed


def test_a_request_that_began_under_the_old_policy_is_answered_by_it(serve, row):
    client = serve()

    async def reload_under_way():
        client.engine.gate = asyncio.Event()
        asked = asyncio.create_task(client.send("POST", "/predict", json={"inputs": row}))
        while not client.engine.requests:
            await asyncio.sleep(0)
        reply = await client.send("PUT", "/policy", content=another(client))
        await asyncio.sleep(0.01)
        closed = client.engine.closed
        client.engine.gate.set()
        return reply, closed, await asked

    reply, closed, answer = client.run(reload_under_way())
    assert (reply.status_code, closed, answer.status_code) == (200, False, 200)
    client.stop()
    assert client.engine.closed


def test_every_fault_of_a_policy_is_told_with_its_place(serve):
    client = serve()
    text = client.engine.policy_file.text.replace("accuracy", "acuracy", 1)
    text = text.replace("run: classify", "run: clasify")
    reply = client.put("/policy", content=text)
    assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
    first, second = reply.json()["faults"]
    assert (first["path"], first["line"], first["column"]) == ("validation.metric", 13, 11)
    assert (second["path"], second["line"]) == ("targets[0].run", 19)
    assert "Did you mean 'classify'?" in second["cure"]
    assert str(second["rule"]) in reply.json()["detail"]
    assert client.get("/policy").json()["text"] == client.engine.policy_file.text
    assert client.home.made == []


@pytest.mark.parametrize(
    ("fails", "status"),
    [
        (RequestError(403, "The policy must not add code."), 403),
        (InfeasibleError("No candidate is feasible."), 422),
        (StateError("The disk is full."), 500),
    ],
)
def test_a_policy_that_can_not_be_served_leaves_the_old_one(serve, row, fails, status):
    client = serve()
    client.home.fails = fails
    reply = client.put("/policy", content=another(client))
    assert reply.status_code == status
    assert str(fails) in told(reply)
    assert client.post("/predict", json={"inputs": row}).status_code == 200
    assert not client.engine.closed
    event = client.get("/events").json()["events"][-1]
    assert (event["kind"], event["source"]) == ("reload", "policy")
    assert "refused; the old one serves on" in event["text"]


def test_a_policy_that_can_not_be_kept_leaves_the_old_one(serve, row):
    client = serve()
    client.home.unkept = StateError("The disk is full.")
    assert client.put("/policy", content=another(client)).status_code == 500
    (engine,) = client.home.made
    assert engine.closed
    assert not client.engine.closed
    assert client.post("/predict", json={"inputs": row}).status_code == 200


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("serve: {image: {mode: L, width: 9, height: 8, layout: flat}}", "serve.image: must give"),
        ("serve: {auth: {keys_from_env: NO_SUCH}}", "environment variable must be set"),
    ],
)
def test_a_policy_whose_images_or_keys_do_not_do_is_refused(serve, row, section, says):
    client = serve()
    reply = client.put("/policy", content=another(client, section))
    assert reply.status_code == 422
    assert says in told(reply)
    (engine,) = client.home.made
    assert engine.closed
    assert client.post("/predict", json={"inputs": row}).status_code == 200


def test_keys_limits_and_images_come_with_the_policy(serve, row):
    secret, line = new_key("a", ["predict", "admin"])
    client = serve(environ={"KEYS": line})
    image = "{mode: L, width: 8, height: 8, layout: flat}"
    serving = f"serve: {{auth: {{keys_from_env: KEYS}}, limits: {{max_rows: 1}}, image: {image}}}"
    assert client.put("/policy", content=another(client, serving)).status_code == 200
    assert client.post("/predict", json={"inputs": row}).status_code == 401
    headers = {"authorization": f"Bearer {secret}"}
    reply = client.post("/predict", json={"inputs": [row, row]}, headers=headers)
    assert reply.status_code == 413
    image = client.post("/predict", content=b"x", headers={**headers, "content-type": "image/png"})
    assert "serve.image" not in told(image)
    again = another(client, serving.replace("{keys_from_env: KEYS}", "none"))
    assert client.put("/policy", content=again, headers=headers).status_code == 200
    assert client.post("/predict", json={"inputs": row}).status_code == 200


def test_two_policies_at_the_same_time_are_one_too_many(serve):
    client = serve()

    async def both():
        client.home.gate = asyncio.Event()
        first = asyncio.create_task(client.send("PUT", "/policy", content=another(client)))
        while not client.app.application.reloading:
            await asyncio.sleep(0)
        second = await client.send("PUT", "/policy", content=another(client))
        client.home.gate.set()
        return (await first), second

    first, second = client.run(both())
    assert (first.status_code, second.status_code) == (200, 409)
    assert "one at a time" in told(second)
    assert client.put("/policy", content=another(client)).status_code == 200


def test_a_server_that_stops_meanwhile_closes_what_it_prepared(serve):
    client = serve()

    async def stopped():
        client.home.gate = asyncio.Event()
        reload = asyncio.create_task(client.send("PUT", "/policy", content=another(client)))
        while not client.app.application.reloading:
            await asyncio.sleep(0)
        stopping = asyncio.create_task(client.app.application.shutdown())
        while client.app.application.ready:
            await asyncio.sleep(0)
        client.home.gate.set()
        await stopping
        return await reload

    assert client.run(stopped()).status_code == 503
    (engine,) = client.home.made
    assert engine.closed
    assert client.home.accepted == []


@pytest.mark.parametrize(
    ("content", "media_type", "status", "says"),
    [
        (b"a: 1", "image/png", 415, "Content-Type must be application/yaml or application/json"),
        (b"a: 1", "application/json", 400, "body must be JSON"),
        (
            b'{"policy": ""}',
            "application/json",
            400,
            'body must be {"text": "the policy, in YAML"}',
        ),
        (b"\xff", "application/yaml", 400, "body must be UTF-8, got byte 0xff at 0"),
        (b"", "application/yaml", 422, "must not be empty"),
        (b'{"text": "\\ud800"}', "application/json", 400, "body must be JSON"),
    ],
)
def test_a_body_that_is_no_policy_is_refused(serve, content, media_type, status, says):
    client = serve()
    reply = client.put("/policy", content=content, headers={"content-type": media_type})
    assert reply.status_code == status
    assert says in told(reply)


def test_pages_from_elsewhere_can_not_operate_a_server_without_keys(serve):
    client = serve()
    headers = {"sec-fetch-site": "cross-site"}
    for method, path in (
        ("PUT", "/policy"),
        ("POST", "/plan/pin"),
        ("POST", "/v2/repository/models/digits-mlp/unload"),
    ):
        assert client.request(method, path, headers=headers).status_code == 403
    assert client.engine.done == client.home.made == []
