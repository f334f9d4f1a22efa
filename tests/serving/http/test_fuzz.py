"""Whatever a body holds, the answer is below 500 and in the protocol's shape."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
SHAPE = st.lists(st.integers(-2, 2**62) | st.booleans() | st.none(), max_size=4)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.just("pixels") | JSON,
        "datatype": st.sampled_from(["FP32", "FP16", "BYTES", "BF16"]) | JSON,
        "shape": st.just([1, 64]) | SHAPE | JSON,
    },
    optional={
        "data": st.just([0.5] * 64) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 300)}) | JSON,
    },
)
OIP = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=2) | JSON},
    optional={"id": JSON, "parameters": JSON, "outputs": JSON},
)
FORMS = ["inputs", "instances", "dataframe_split", "dataframe_records", "params"]
BODIES = st.one_of(
    st.binary(max_size=600),
    JSON.map(
        orjson.dumps,
    ),
    OIP.map(orjson.dumps),
    st.dictionaries(st.sampled_from(FORMS), JSON, max_size=2).map(orjson.dumps),
    st.text("0123456789.,\n\"'ax-", max_size=300).map(str.encode),
)
TYPES = ["application/json", "text/csv", "application/x-npy", "image/png", "image/jpeg", "x/y", ""]
IMAGE = "serve: {image: {mode: L, width: 8, height: 8, layout: flat}}"


@pytest.fixture
def client(serve):
    return serve(IMAGE)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=st.sampled_from(["/predict", "/invocations", "/v2/models/digits/infer"]),
    body=BODIES,
    media_type=st.sampled_from(TYPES),
    length=st.none() | st.integers(-1, 700).map(str) | st.text("0123456789 +-_x", max_size=8),
    encoding=st.sampled_from([None, None, None, "gzip", "deflate", "identity"]),
)
def test_no_body_makes_the_server_fail(client, path, body, media_type, length, encoding):
    headers = {"content-type": media_type}
    if length is not None:
        headers["inference-header-content-length"] = length
    if encoding is not None:
        headers["content-encoding"] = encoding
    reply = client.post(path, content=body, headers=headers)
    assert reply.status_code in (200, 400, 413, 415, 422), reply.text
    if reply.status_code != 200:
        assert reply.json()["error" if path.startswith("/v2") else "detail"]


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(document=OIP, tail=st.binary(max_size=300))
def test_no_binary_tail_makes_the_server_fail(client, document, tail):
    head = orjson.dumps(document)
    headers = {"inference-header-content-length": str(len(head))}
    reply = client.post("/v2/models/digits/infer", content=head + tail, headers=headers)
    assert reply.status_code in (200, 400), reply.text
