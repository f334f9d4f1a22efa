from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.tensors import Signature, TensorSpec

PAIR = Signature(
    (TensorSpec("a", "float32", (None, 2)), TensorSpec("n", "int64", (None,))),
    (TensorSpec("sum", "float32", (None,)),),
)


def sums(inputs):
    return {"sum": inputs["a"].sum(axis=1) + inputs["n"].astype(np.float32)}


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_a_batch_is_answered_with_an_entry_a_row(serve, row):
    client = serve()
    reply = client.post("/predict", json={"inputs": [row, [0.0] * 7 + [9.0] + [0.0] * 56]})
    body = reply.json()
    assert reply.status_code == 200
    assert body["label"] == [3, 7]
    assert len(set(body["id"])) == 2
    assert np.shape(body["outputs"]["logits"]) == (2, 10)
    assert body["variant"] == reply.headers["scanflow-variant"] == "digits-mlp/onnxruntime-fp32x1"
    assert reply.headers["scanflow-prediction-id"] == ",".join(body["id"])
    assert (body["model"], body["version"], body["workflow"]) == ("digits-mlp", "1", "classify")
    assert body["latency_ms"] == 0.75


def test_an_input_without_a_batch_dimension_is_answered_with_single_values(serve, row):
    body = serve().post("/predict", json={"inputs": row}).json()
    assert body["label"] == 3
    assert isinstance(body["id"], str)
    assert np.shape(body["outputs"]["logits"]) == (10,)


def test_labels_are_the_policys_class_names(serve, row):
    client = serve(labels=tuple("abcdefghij"))
    assert client.post("/predict", json={"inputs": row}).json()["label"] == "d"


def test_without_a_classification_output_the_label_is_null(serve, row):
    client = serve(output=None)
    assert client.post("/predict", json={"inputs": [row]}).json()["label"] is None


def test_inputs_go_by_name_with_their_own_dtypes(serve):
    client = serve(signature=PAIR, run=sums, output=None)
    reply = client.post("/predict", json={"inputs": {"a": [[1, 2], [3, 4]], "n": [5, 6]}})
    assert reply.json()["outputs"] == {"sum": [8.0, 13.0]}
    request = client.engine.requests[0]
    assert (request.rows, request.inputs["a"].dtype, request.inputs["n"].dtype) == (
        2,
        np.float32,
        np.int64,
    )


def test_several_inputs_without_a_batch_dimension_are_one_row(serve):
    client = serve(signature=PAIR, run=sums, output=None)
    reply = client.post("/predict", json={"inputs": {"a": [1, 2], "n": 5}})
    assert reply.json()["outputs"] == {"sum": 8.0}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "body must be JSON, got nothing"),
        (b"{", "body must be JSON: "),
        (b'{"inputs": "\xff"}', "body must be JSON: "),
        (b'{"inputs": [NaN]}', "body must be JSON: "),
        (b'{"inputs": 1e999}', "body must be JSON: "),
        (b"[" * 3000, "body must be JSON: depth limit exceeded"),
        (b"[]", 'body must be {"inputs": …} and nothing else, got []'),
        (b'{"input": 1}', "and nothing else, got {'input': 1}"),
        (b'{"inputs": []}', "inputs must have shape [-1, 64] (-1: any size, first the batch)"),
        (b'{"inputs": [[1, 2]]}', "got [1, 2]"),
        (b'{"inputs": [[1], [1, 2]]}', "inputs[1] must be a list of 1 items like the first"),
        (b'{"inputs": [[1], 2]}', "inputs[1] must be a list of 1 items like the first, got 2"),
        (b'{"inputs": [1, "a"]}', "inputs[1] must be a number, got 'a'"),
        (b'{"inputs": [[1, null]]}', "inputs[0][1] must be a number, got nothing"),
        (b'{"inputs": [true]}', "inputs[0] must be a number, got True"),
        (b'{"inputs": [1e300]}', "inputs[0] must be within"),
        (b'{"inputs": {"pixel": 1}}', "inputs must have exactly the names ['pixels']"),
        (b'{"inputs": ' + b"[" * 40 + b"]" * 40 + b"}", "must nest at most 32 lists"),
    ],
)
def test_a_malformed_body_is_400_and_names_the_place(serve, body, says):
    reply = serve().post("/predict", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    problem = reply.json()
    assert says in problem["detail"]
    assert (problem["title"], problem["status"]) == ("Bad Request", 400)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"a": [[1, 2]], "n": [1, 2]}, "inputs.n must have 1 rows like the others, got 2"),
        ({"a": [[1, 2]], "n": [1.5]}, "inputs.n[0] must be a whole number, got 1.5"),
        ({"a": [[1, 2]], "n": [2**63]}, "inputs.n[0] must be between -9223372036854775808"),
        ([[1, 2]], "inputs must be an object with the inputs ['a', 'n']"),
    ],
)
def test_inputs_that_disagree_are_400(serve, inputs, says):
    client = serve(signature=PAIR, run=sums, output=None)
    reply = client.post("/predict", json={"inputs": inputs})
    assert reply.status_code == 400
    assert says in reply.json()["detail"]


def test_text_and_booleans_have_their_own_rules(serve):
    signature = Signature(
        (TensorSpec("t", "str", (None, 1)), TensorSpec("b", "bool", (None, 1))),
        (TensorSpec("t", "str", (None, 1)),),
    )
    client = serve(signature=signature, run=lambda inputs: {"t": inputs["t"]}, output=None)
    good = client.post("/predict", json={"inputs": {"t": [["x"]], "b": [[True]]}})
    assert good.json()["outputs"] == {"t": [["x"]]}
    bad = client.post("/predict", json={"inputs": {"t": [[1]], "b": [[True]]}})
    assert "inputs.t[0][0] must be a string, got 1" in bad.json()["detail"]
    bad = client.post("/predict", json={"inputs": {"t": [["x"]], "b": [[1]]}})
    assert "inputs.b[0][0] must be true or false, got 1" in bad.json()["detail"]


def test_more_rows_than_the_policy_allows_is_413(serve, row):
    client = serve("serve: {limits: {max_rows: 2}}")
    reply = client.post("/predict", json={"inputs": [row] * 3})
    assert reply.status_code == 413
    assert "inputs must have <= 2 rows, got 3" in reply.json()["detail"]


def test_an_unknown_media_type_is_415_and_names_the_accepted(serve):
    reply = serve().post("/predict", content=b"a=1", headers={"content-type": "text/weird"})
    assert reply.status_code == 415
    assert "application/x-npy, image/png, image/jpeg, text/csv" in reply.json()["detail"]


def test_npy_is_cast_where_only_precision_is_lost(serve, row):
    client = serve()
    headers = {"content-type": "application/x-npy"}
    for array in (np.array([row]), np.array([row], dtype=np.uint8), np.array([row], order="F")):
        assert client.post("/predict", content=npy(array), headers=headers).json()["label"] == [3]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "body must be a .npy file"),
        (b"PK\x03\x04", "body must be a .npy file"),
        (npy(np.zeros((1, 64)))[:-8], "body must hold shape [1, 64] of float64, got 504 bytes"),
        (npy(np.zeros((1, 64), complex)), "got dtype 'complex128'"),
        (npy(np.array([["a"] * 64])), "body must be float32 or cast to it safely"),
        (npy(np.full((1, 64), 1e300)), "body must be float32 or cast to it safely"),
        (npy(np.zeros((0, 64))), "at least one row"),
        (npy(np.array([{}], dtype=object)), "numbers, booleans or text"),
    ],
)
def test_a_bad_npy_is_400(serve, body, says):
    reply = serve().post("/predict", content=body, headers={"content-type": "application/x-npy"})
    assert reply.status_code == 400
    assert says in reply.json()["detail"]


def test_an_npy_header_that_claims_terabytes_allocates_nothing(serve):
    lie = npy(np.zeros((1, 64))).replace(b"(1, 64), }" + b" " * 8, b"(99999999999, 64), }"[:18])
    reply = serve().post("/predict", content=lie, headers={"content-type": "application/x-npy"})
    assert reply.status_code == 400


def test_csv_has_a_row_each_with_or_without_a_header(serve, row):
    client = serve()
    line = ",".join(map(str, row))
    head = ",".join(f"p{i}" for i in range(64))
    headers = {"content-type": "text/csv; charset=utf-8"}
    for text in (f"{line}\n{line}\n", f"{head}\r\n{line}\r\n{line}"):
        assert client.post("/predict", content=text, headers=headers).json()["label"] == [3, 3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "body must be CSV with at least one row"),
        ("1,2\n", "csv must have 64 columns, the values of input 'pixels', got 2"),
        ("1,2\n1\n", "csv[1] must have 2 cells, got 1"),
        ("1,2\n1,x\n", "csv[1][1] must be a number, got 'x'"),
        ("1,inf\n", "csv[0][1] must be a number, got 'inf'"),
        ('1,"2\n', "body must be CSV in UTF-8"),
        ("a,b\n", "csv must have at least one row"),
    ],
)
def test_a_bad_csv_is_400(serve, text, says):
    reply = serve().post("/predict", content=text, headers={"content-type": "text/csv"})
    assert reply.status_code == 400
    assert says in reply.json()["detail"]


def test_deadline_and_preference_reach_the_engine(serve, row):
    client = serve()
    headers = {"Scanflow-Deadline-Ms": "12.5", "Scanflow-Prefer": "latency"}
    client.post("/predict", json={"inputs": row}, headers=headers)
    request = client.engine.requests[0]
    assert (request.deadline_ms, request.prefer) == (12.5, "latency")


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"Scanflow-Deadline-Ms": "soon"}, "Scanflow-Deadline-Ms must be a number > 0"),
        ({"Scanflow-Deadline-Ms": "-1"}, "Scanflow-Deadline-Ms must be a number > 0, got '-1'"),
        ({"Scanflow-Deadline-Ms": "inf"}, "Scanflow-Deadline-Ms must be a number > 0"),
        ({"Scanflow-Prefer": "balanced"}, "Scanflow-Prefer must be latency or accuracy"),
    ],
)
def test_a_bad_request_header_is_400(serve, row, headers, says):
    reply = serve().post("/predict", json={"inputs": row}, headers=headers)
    assert reply.status_code == 400
    assert says in reply.json()["detail"]


def test_a_large_batch_shortens_the_header_and_keeps_the_body(serve, row):
    reply = serve().post("/predict", json={"inputs": [row] * 70})
    ids = reply.headers["scanflow-prediction-id"].split(",")
    assert ids == [*reply.json()["id"][:64], "+6"]


def picture(mode="L", size=(8, 8), kind="PNG", bright=3):
    image = Image.new(mode, size)
    if mode == "L":
        image.putpixel((bright, 0), 255)
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


IMAGE = "serve: {image: {mode: L, width: 8, height: 8, layout: flat, scale: 0.0625%s}}"


def test_an_image_becomes_the_input_as_the_policy_says(serve):
    client = serve(IMAGE % "")
    reply = client.post("/predict", content=picture(), headers={"content-type": "image/png"})
    assert reply.json()["label"] == 3
    assert client.engine.requests[0].inputs["pixels"][0, 3] == pytest.approx(255 / 16)


def test_an_image_is_inverted_and_normalised_in_this_order(serve):
    client = serve(IMAGE % ", invert: true, offset: 1, mean: [2], std: [4]")
    client.post("/predict", content=picture(), headers={"content-type": "image/png"})
    pixels = client.engine.requests[0].inputs["pixels"][0]
    assert pixels[3] == pytest.approx((0 + 1 - 2) / 4)
    assert pixels[4] == pytest.approx((255 / 16 + 1 - 2) / 4)


def test_an_image_without_a_policy_is_415_and_says_what_to_add(serve):
    reply = serve().post("/predict", content=picture(), headers={"content-type": "image/png"})
    assert reply.status_code == 415
    assert "serve: {image: {mode: L" in reply.json()["detail"]


@pytest.mark.parametrize(
    ("body", "media_type", "status", "says"),
    [
        (picture(size=(9, 8)), "image/png", 422, "must be 8 x 8 pixels, got 9 x 8"),
        (picture("RGBA"), "image/png", 422, "got mode RGBA"),
        (picture("I;16"), "image/png", 422, "got mode I;16"),
        (picture()[:40], "image/png", 400, "image"),
        (picture(), "image/jpeg", 400, "body must be a JPEG image, as its Content-Type says"),
        (b"", "image/png", 400, "body must be a PNG image"),
    ],
)
def test_an_image_that_does_not_fit_says_what_would(serve, body, media_type, status, says):
    reply = serve(IMAGE % "").post("/predict", content=body, headers={"content-type": media_type})
    assert reply.status_code == status
    assert says in reply.json()["detail"]


def test_a_decompression_bomb_is_413(serve):
    bomb = picture("1", (20_000, 20_000))
    reply = serve(IMAGE % ", resize: nearest").post(
        "/predict", content=bomb, headers={"content-type": "image/png"}
    )
    assert reply.status_code == 413
    assert "image must have <= 50000000 pixels" in reply.json()["detail"]


def test_an_image_of_another_size_is_resized_where_the_policy_says_so(serve):
    client = serve(IMAGE % ", resize: bilinear")
    reply = client.post(
        "/predict", content=picture("RGB", (64, 48), "JPEG"), headers={"content-type": "image/jpeg"}
    )
    assert reply.status_code == 200


def pictured(dtype, *shape):
    """Return a signature with one input of that row shape."""
    return Signature(
        (TensorSpec("x", dtype, (None, *shape)),), (TensorSpec("y", "float32", (None, 1)),)
    )


def section(mode, layout, more=""):
    return f"serve: {{image: {{mode: {mode}, width: 8, height: 6, layout: {layout}{more}}}}}"


@pytest.mark.parametrize(
    ("mode", "layout", "shape"),
    [
        ("RGB", "NCHW", (3, 6, 8)),
        ("RGB", "NCHW", (3, None, None)),
        ("RGB", "NHWC", (6, 8, 3)),
        ("RGB", "flat", (144,)),
        ("L", "NCHW", (1, 6, 8)),
        ("L", "NHW", (6, 8)),
    ],
)
def test_an_image_is_laid_out_as_the_policy_says(serve, mode, layout, shape):
    client = serve(
        section(mode, layout),
        signature=pictured("uint8", *shape),
        run=lambda inputs: {"y": inputs["x"].reshape(1, -1)[:, :1].astype(np.float32)},
        output=None,
    )
    reply = client.post(
        "/predict", content=picture(mode, (8, 6)), headers={"content-type": "image/png"}
    )
    assert reply.status_code == 200
    sent = client.engine.requests[0].inputs["x"]
    assert all(n in (None, m) for n, m in zip(shape, sent.shape[1:], strict=True))


@pytest.mark.parametrize(
    ("image", "signature", "says"),
    [
        (
            section("RGB", "NCHW"),
            pictured("float32", 3, 8, 6),
            r"serve\.image: must give a row of input 'x' its shape \[3, 8, 6\], got \[3, 6, 8\]",
        ),
        (section("L", "flat"), pictured("float32", 64), r"its shape \[64\], got \[48\]"),
        (
            section("RGB", "NHW"),
            pictured("float32", 6, 8),
            r"serve\.image\.layout: must be NCHW, NHWC or flat for mode RGB, got NHW",
        ),
        (section("L", "flat"), pictured("str", 48), r"an input of numbers, got 'x' of str"),
        (
            section("L", "flat", ", input: y"),
            pictured("float32", 48),
            r"serve\.image\.input: must be 'x', the only input, got 'y'",
        ),
        (
            section("L", "flat"),
            Signature(pictured("float32", 48).inputs * 2, ()),
            r"a model with one input, got \['x', 'x'\]",
        ),
    ],
)
def test_a_server_whose_images_can_not_fit_does_not_start(serve, image, signature, says):
    with pytest.raises(UsageError, match=says):
        serve(image, signature=signature)
