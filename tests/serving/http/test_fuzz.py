"""Whatever a body holds, the answer is below 500 and in the protocol's shape."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from PIL import Image

from scanflow_serve.runtime.tensors import Signature, TensorSpec

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

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture
def client(serve):
    return serve(IMAGE)


@FUZZ
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


@FUZZ
@given(document=OIP, tail=st.binary(max_size=300))
def test_no_binary_tail_makes_the_server_fail(client, document, tail):
    head = orjson.dumps(document)
    headers = {"inference-header-content-length": str(len(head))}
    reply = client.post("/v2/models/digits/infer", content=head + tail, headers=headers)
    event(f"answered {reply.status_code}")
    assert reply.status_code in (200, 400), reply.text


MIXED = Signature(
    (
        TensorSpec("word", "str", (None, 2)),
        TensorSpec("half", "float16", (None,)),
        TensorSpec("flag", "bool", (None, None)),
    ),
    (TensorSpec("y", "float32", (None,)),),
)


@pytest.fixture
def mixed(serve):
    return serve(
        signature=MIXED,
        run=lambda inputs: {"y": inputs["half"].astype(np.float32)},
        output=None,
    )


def element(text: bytes, lie: int = 0) -> bytes:
    """Return a BYTES element whose length is off by *lie*."""
    return struct.pack("<I", (len(text) + lie) % 2**32) + text


@st.composite
def binary_requests(draw) -> tuple[bytes, str]:
    """Return a nearly right binary request of `MIXED`, and its header's length."""
    rows = draw(st.integers(0, 3))
    lies = st.sampled_from([0] * 12 + [1, -1, 2**31])
    words = [element(draw(st.binary(max_size=5)), draw(lies)) for _ in range(2 * rows)]
    halves = draw(st.binary(min_size=2 * rows, max_size=2 * rows))
    flags = draw(st.binary(min_size=rows, max_size=rows))
    tensors, data = [], []
    for name, datatype, shape, chunk in (
        ("word", "BYTES", [rows, 2], b"".join(words)),
        ("half", "FP16", [rows], halves),
        ("flag", "BOOL", [rows, 1], flags),
    ):
        size = max(0, len(chunk) + draw(lies))
        shape[0] += draw(st.sampled_from([0] * 12 + [1, -1, 2**62]))
        tensor = {"name": name, "datatype": datatype, "shape": shape}
        tensors.append(tensor | {"parameters": {"binary_data_size": size}})
        data.append(chunk)
    head = orjson.dumps({"inputs": draw(st.permutations(tensors))})
    return head + b"".join(data), str(len(head) + draw(lies))


@FUZZ
@given(request=binary_requests(), cut=st.integers(0, 3))
def test_nearly_right_binary_tensors_are_answered_or_refused(mixed, request, cut):
    body, length = request
    headers = {"inference-header-content-length": length}
    reply = mixed.post("/v2/models/digits/infer", content=body[: len(body) - cut], headers=headers)
    event(f"answered {reply.status_code}")
    assert reply.status_code in (200, 400), reply.text


def picture(kind: str, mode: str) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((8, 8)).convert(mode).save(stream, kind)
    return stream.getvalue()


PICTURES = [picture("PNG", mode) for mode in ("1", "L", "P", "RGB", "RGBA")]
PICTURES += [picture("JPEG", mode) for mode in ("L", "RGB", "CMYK")]


@FUZZ
@given(
    image=st.sampled_from(PICTURES),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    cut=st.just(0) | st.integers(0, 2000),
)
def test_a_damaged_image_is_answered_or_refused(client, image, changes, cut):
    damaged = bytearray(image)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    body = bytes(damaged[: len(damaged) - cut % len(damaged)])
    kind = "image/png" if image[:4] == PICTURES[0][:4] else "image/jpeg"
    reply = client.post("/predict", content=body, headers={"content-type": kind})
    event(f"answered {reply.status_code}")
    assert reply.status_code in (200, 400, 413, 422), reply.text


CELL = st.sampled_from(["1", "-2.5", "1e400", "nan", "inf", "", " 3 ", '"4"', '"', "x", "\0", "é"])


@FUZZ
@given(
    rows=st.lists(st.lists(CELL, min_size=62, max_size=66) | st.just(["0"] * 64), max_size=3),
    end=st.sampled_from(["\n", "\r\n", "\r", ""]),
    path=st.sampled_from(["/predict", "/invocations"]),
)
def test_any_csv_is_answered_or_refused(client, rows, end, path):
    body = end.join(",".join(row) for row in rows).encode()
    reply = client.post(path, content=body, headers={"content-type": "text/csv"})
    event(f"answered {reply.status_code}")
    assert reply.status_code in (200, 400), reply.text


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


HUGE_PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b""))
)
HUGE_NPY = b"\x93NUMPY\x01\x00" + struct.pack("<H", 70)
HUGE_NPY += b"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 64), }\n"
HUGE_OIP = orjson.dumps(
    {
        "inputs": [
            {
                "name": "pixels",
                "datatype": "FP32",
                "shape": [2**24, 64],
                "parameters": {"binary_data_size": 0},
            }
        ]
    }
)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/predict", HUGE_PNG, {"content-type": "image/png"}),
        ("/predict", HUGE_NPY, {"content-type": "application/x-npy"}),
        (
            "/v2/models/digits/infer",
            HUGE_OIP,
            {"inference-header-content-length": str(len(HUGE_OIP))},
        ),
        ("/predict", zlib.compress(b"[" * 2**25, 9), {"content-encoding": "deflate"}),
    ],
)
def test_a_body_that_claims_much_more_than_it_is_takes_no_memory(serve, path, body, headers):
    client = serve(f"{IMAGE[:-1]}, limits: {{body_mb: 1}}}}")
    assert len(body) < 2**16
    tracemalloc.start()
    try:
        reply = client.post(path, content=body, headers=headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reply.status_code in (400, 413), reply.text
    assert peak < 8 * 2**20
