from __future__ import annotations

import asyncio
import gzip
import logging
import zlib

import orjson
import pytest

from scanflow_serve.policies.errors import BackendError, InputError, RequestError, UsageError
from scanflow_serve.serving.app import create_app
from scanflow_serve.serving.keys import new_key

PREDICTIONS = {
    "/predict": lambda row: {"inputs": row},
    "/invocations": lambda row: {"inputs": [row]},
    "/v2/models/digits/infer": lambda row: {
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [1, 64], "data": row}]
    },
}


def bare_deflate(data):
    """Return what many clients call deflate: without zlib's header."""
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush()


def told(reply):
    body = reply.json()
    return body["error"] if "error" in body else body["detail"]


@pytest.mark.parametrize("path", ["/nope", "/v2/nope", "/v2/models", "/v2x", "/predict/"])
def test_an_unknown_path_answers_in_its_protocols_shape(serve, path):
    reply = serve().get(path)
    assert reply.status_code == 404
    assert told(reply) == f"{path!r} is unknown. GET /docs lists the routes."
    assert ("error" in reply.json()) == path.startswith("/v2/")


def test_another_method_is_405_and_allow_says_which(serve):
    client = serve()
    assert client.get("/predict").status_code == 405
    assert client.get("/predict").headers["allow"] == "POST"
    assert client.post("/plan").headers["allow"] == "GET, HEAD"
    assert client.request("DELETE", "/v2/models/digits").json() == {
        "error": "Method must be one of GET, HEAD, got 'DELETE'."
    }


def test_head_is_get_without_a_body(serve):
    reply = serve().request("HEAD", "/livez")
    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) > 0


def test_introspection_shows_host_plan_and_the_policy_unexpanded(serve):
    client = serve("description: ${SECRET_OF_TEST:-x}")
    assert client.get("/host").json()["kind"] == "desktop"
    assert client.get("/plan").json()["chosen"]["id"] == "classify:digits-mlp/onnxruntime-fp32x1"
    body = client.get("/policy").json()
    assert "${SECRET_OF_TEST:-x}" in body["text"]
    assert body["name"] == "digits"


@pytest.mark.parametrize("path", PREDICTIONS)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError(503, "The queue is full.", retry_after_s=2.2), 503),
        (RequestError(504, "The deadline can't be met."), 504),
        (RequestError(404, "Model 'x' is not loaded."), 404),
        (InputError("pixels must be …"), 400),
        (BackendError("The backend failed."), 500),
        (ZeroDivisionError("secret of the code"), 500),
        (MemoryError(), 500),
    ],
)
def test_what_the_engine_raises_becomes_a_status(serve, row, path, error, status):
    client = serve(fails=error)
    reply = client.post(path, json=PREDICTIONS[path](row))
    assert reply.status_code == status
    assert "secret of the code" not in reply.text
    if status in (503, 504):
        assert reply.headers["retry-after"] == ("3" if status == 503 else "1")
    client.engine.fails = None
    assert client.post(path, json=PREDICTIONS[path](row)).status_code == 200


LATE = RequestError(504, "The deadline can't be met.", retry_after_s=2.2)


@pytest.mark.parametrize("path", PREDICTIONS)
def test_who_comes_too_late_is_refused_before_the_body_is_parsed(serve, path):
    client = serve(hopeless=LATE)
    reply = client.post(path, content=b"{", headers={"content-type": "application/json"})
    assert (reply.status_code, told(reply)) == (504, LATE.detail)
    assert reply.headers["retry-after"] == "3"
    failures = [line for line in client.get("/metrics").text.splitlines() if "failures_t" in line]
    assert 'scanflow_inference_failures_total{model="digits",reason="deadline"} 1.0' in failures


@pytest.mark.parametrize(
    "parameters", ['"timeout": 1e9', '"priority": 1', r'"time\u006fut": 1000000000']
)
def test_body_that_may_say_how_long_it_can_wait_is_read(serve, row, parameters):
    client = serve(hopeless=LATE)
    asked = orjson.dumps(PREDICTIONS["/v2/models/digits/infer"](row))
    body = asked[:-1] + f', "parameters": {{{parameters}}}}}'.encode()
    headers = {"content-type": "application/json"}
    reply = client.post("/v2/models/digits/infer", content=body, headers=headers)
    assert reply.status_code == 200
    binary = headers | {"inference-header-content-length": str(len(asked))}
    reply = client.post("/v2/models/digits/infer", content=asked + b'"timeout"', headers=binary)
    assert reply.status_code == 504


def test_an_unexpected_exception_has_an_id_that_the_log_has_too(serve, row, caplog):
    client = serve(fails=ZeroDivisionError("secret of the code"))
    reply = client.post("/predict", json={"inputs": row})
    identity = reply.json()["instance"].removeprefix("urn:uuid:").replace("-", "")
    assert identity in reply.json()["detail"]
    record = next(record for record in caplog.records if identity in record.getMessage())
    assert record.exc_info is not None


def test_before_and_after_its_lifespan_the_server_is_not_ready(serve, row):
    client = serve()
    client.stop()
    assert client.engine.closed
    for path in ("/readyz", "/ping", "/v2/health/ready", "/plan"):
        assert client.get(path).status_code == 503
    assert client.get("/v2/health/ready").json()["ready"] is False
    assert client.get("/livez").status_code == 200
    reply = client.post("/predict", json={"inputs": row})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    client.start()
    assert client.get("/readyz").json() == {"ready": True}


def test_the_lifespan_starts_and_closes_the_engine(serve):
    home = serve().home
    home.engine.closed = False
    app = create_app(home, {})
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append((message["type"], app.application.ready))

    asyncio.run(app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send))
    assert sent == [("lifespan.startup.complete", True), ("lifespan.shutdown.complete", False)]
    assert home.engine.closed


@pytest.mark.parametrize("path", PREDICTIONS)
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("identity", bytes),
    ],
)
def test_compressed_requests_are_read(serve, row, path, encoding, pack):
    packed = pack(orjson.dumps(PREDICTIONS[path](row)))
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    assert serve().post(path, content=packed, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("encoding", "body", "status", "says"),
    [
        ("br", b"x", 415, "Content-Encoding must be one of gzip, deflate, identity, got 'br'"),
        ("gzip", b"xyz", 400, "body must be gzip, as its header says"),
        ("gzip", b"", 400, "body must be a complete gzip stream"),
        ("gzip", gzip.compress(b"{}", mtime=0)[:-3], 400, "body must be a complete gzip stream"),
        ("gzip", gzip.compress(b"{}", mtime=0) + b"x", 400, "body must end with its gzip stream"),
        ("deflate", b"\xff\xff", 400, "body must be deflate, as its header says"),
        ("gzip", gzip.compress(b"\0" * 2**21, mtime=0), 413, "once decompressed"),
    ],
)
def test_a_broken_or_bomb_like_compression_is_refused(serve, encoding, body, status, says):
    reply = serve("serve: {limits: {body_mb: 1}}").post(
        "/predict", content=body, headers={"content-encoding": encoding}
    )
    assert reply.status_code == status
    assert says in told(reply)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_large_reply_is_compressed_where_the_client_takes_it(serve, row, encoding):
    client = serve()
    batch = {"inputs": [row] * 200}
    reply = client.post("/predict", json=batch, headers={"accept-encoding": encoding})
    assert reply.headers["content-encoding"] == encoding
    assert len(reply.json()["label"]) == 200
    plain = client.post("/predict", json=batch, headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers


def test_a_body_over_the_limit_is_413_declared_or_streamed(serve):
    client = serve("serve: {limits: {body_mb: 1}}")

    async def stream():
        for _ in range(3):
            yield b"x" * 2**19

    for content in (b"x" * (2**20 + 1), stream()):
        reply = client.post("/predict", content=content)
        assert reply.status_code == 413
        assert "body must be <= 1048576 bytes" in told(reply)


def test_a_client_over_its_rate_is_429_and_others_are_not_counted(serve, row):
    client = serve("serve: {limits: {rate_rps: 0.001}}")
    assert client.post("/predict", json={"inputs": row}).status_code == 200
    reply = client.post("/predict", json={"inputs": row})
    assert reply.status_code == 429
    assert int(reply.headers["retry-after"]) > 900
    assert client.get("/plan").status_code == 200


@pytest.fixture
def guarded(serve):
    """Return a server with three keys, and the headers that present them."""
    secrets, lines = {}, []
    for name, scopes in (("p", ["predict"]), ("f", ["feedback"]), ("a", ["admin"])):
        secret, line = new_key(name, scopes)
        lines.append(line)
        secrets[name] = {"authorization": f"Bearer {secret}"}
    section = "serve: {auth: {keys_from_env: KEYS}}"
    return serve(section, environ={"KEYS": ",".join(lines)}), secrets


@pytest.mark.parametrize(
    ("method", "path", "opens"),
    [
        ("POST", "/predict", "p"),
        ("POST", "/invocations", "p"),
        ("POST", "/v2/models/digits/infer", "p"),
        ("GET", "/v2/models/digits", "p"),
        ("POST", "/v2/repository/index", "p"),
        ("GET", "/host", "pfa"),
        ("GET", "/plan", "pfa"),
        ("GET", "/metrics", "pfa"),
        ("GET", "/events", "pfa"),
        ("GET", "/policy", "a"),
        ("PUT", "/policy", "a"),
        ("POST", "/plan/pin", "a"),
        ("POST", "/v2/repository/models/digits-mlp/load", "a"),
        ("POST", "/v2/repository/models/digits-mlp/unload", "a"),
    ],
)
def test_a_key_opens_what_its_scopes_say(guarded, row, method, path, opens):
    client, secrets = guarded
    bodies = {
        **{path: body(row) for path, body in PREDICTIONS.items()},
        "/plan/pin": {"variant": None},
        "/policy": {"text": client.engine.policy_file.text},
    }
    body = None if method == "GET" else bodies.get(path, {})
    for name, headers in secrets.items():
        reply = client.request(method, path, json=body, headers=headers)
        assert reply.status_code == (200 if name in opens else 403), name
    for headers in ({}, {"authorization": "Bearer nonsense"}, {"authorization": "Basic eDp5"}):
        reply = client.request(method, path, json=body, headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/ping", "/version", "/v2", "/v2/health/ready", "/docs", "/openapi.json"],
)
def test_health_and_documentation_need_no_key(guarded, path):
    assert guarded[0].get(path).status_code == 200


def test_a_server_whose_keys_are_missing_does_not_start(serve):
    with pytest.raises(UsageError, match="environment variable must be set, got nothing"):
        serve("serve: {auth: {keys_from_env: KEYS}}")


def test_the_access_log_has_no_bodies(serve, row, caplog):
    caplog.set_level(logging.INFO, "scanflow_serve.access")
    client = serve("serve: {access_log: 1.0}")
    client.post("/predict", json={"inputs": row})
    client.get("/a%0ab")
    lines = [r.getMessage() for r in caplog.records if r.name == "scanflow_serve.access"]
    assert lines[0].startswith("10.0.0.7 POST '/predict' 200 ")
    assert r"'/a\nb' 404" in lines[1]
    assert "5.0" not in lines[0].split("200")[0]


def test_metrics_label_templates_and_not_what_clients_send(serve, row):
    client = serve()
    client.post("/predict", json={"inputs": [row, row]})
    for i in range(50):
        client.get(f"/random/{i}")
        client.get(f"/v2/models/random-{i}")
    text = client.get("/metrics").text
    assert "random" not in text
    assert 'scanflow_requests_total{route="unknown",status="404"} 50.0' in text
    assert 'scanflow_requests_total{route="/v2/models/{model}",status="404"} 50.0' in text
    variant = 'model="digits",variant="digits-mlp/onnxruntime-fp32x1"'
    assert f"scanflow_predictions_total{{{variant}}} 2.0" in text
    assert "scanflow_ready 1.0" in text
    assert "scanflow_in_flight 1.0" in text


def test_a_client_that_goes_away_leaves_nothing_behind(serve):
    client = serve()
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    asyncio.run(client.app(scope, receive, send))
    assert (sent, client.app.application.in_flight) == ([], 0)
    assert 'status="499"' in client.get("/metrics").text


def test_the_application_answers_below_a_mount_too(serve):
    client = serve()
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "root_path": "/api", "path": "/api/livez"}
    asyncio.run(client.app({**scope, "headers": []}, receive, send))
    assert sent[0]["status"] == 200
