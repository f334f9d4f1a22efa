from __future__ import annotations

import struct

import numpy as np
import orjson
import pytest

from scanflow_serve.runtime.tensors import Signature, TensorSpec

INFER = "/v2/models/digits/infer"


def tensor(row, **changes):
    return {"name": "pixels", "datatype": "FP32", "shape": [1, 64], "data": row} | changes


def binary(document, *tensors):
    head = orjson.dumps(document)
    return {
        "content": head + b"".join(tensors),
        "headers": {"Inference-Header-Content-Length": str(len(head))},
    }


def split(reply):
    size = int(reply.headers["inference-header-content-length"])
    return orjson.loads(reply.content[:size]), reply.content[size:]


def echo(dtype, *shape):
    """A model that returns its input."""
    signature = Signature(
        (TensorSpec("x", dtype, (None, *shape)),), (TensorSpec("y", dtype, (None, *shape)),)
    )
    return {"signature": signature, "run": lambda inputs: {"y": inputs["x"]}, "output": None}


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_says_both_live_and_ready(serve, path):
    assert serve().get(path).json() == {"live": True, "ready": True}


def test_server_metadata_names_the_extensions(serve):
    body = serve().get("/v2").json()
    assert body["name"] == "scanflow-serve"
    extensions = {"binary_tensor_data", "classification", "model_repository", "statistics"}
    assert set(body["extensions"]) == extensions


@pytest.mark.parametrize("path", ["/v2/models/digits", "/v2/models/digits/versions/1"])
def test_model_metadata_has_names_datatypes_and_open_batches(serve, path):
    body = serve().get(path).json()
    assert (body["name"], body["versions"]) == ("digits", ["1"])
    assert body["inputs"] == [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}]
    assert body["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}]


def test_models_and_workflows_answer_beside_the_policys_name(serve):
    for name in ("digits", "classify", "digits-mlp"):
        assert serve().get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}


@pytest.mark.parametrize(
    "path", ["/v2/models/nope", "/v2/models/digits/versions/9", "/v2/models/nope/infer"]
)
def test_an_unknown_model_is_404_in_the_protocols_shape(serve, path):
    method = "POST" if path.endswith("infer") else "GET"
    reply = serve().request(method, path, json={} if method == "POST" else None)
    assert reply.status_code == 404
    assert list(reply.json()) == ["error"]


def test_the_repository_index_lists_what_is_and_is_not_loaded(serve):
    client = serve()
    states = {e["name"]: e["state"] for e in client.post("/v2/repository/index").json()}
    assert states == {
        "digits": "READY",
        "classify": "READY",
        "digits-mlp": "READY",
        "digits-cnn": "UNAVAILABLE",
    }
    ready = client.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["state"] for entry in ready} == {"READY"}
    assert client.post("/v2/repository/index", json=[1]).status_code == 400


def test_json_inference_echoes_the_id_and_gives_ids_of_its_own(serve, row):
    body = serve().post(INFER, json={"id": "mine", "inputs": [tensor(row)]}).json()
    assert body["id"] == "mine"
    assert (body["model_name"], body["model_version"]) == ("digits", "1")
    assert len(body["parameters"]["scanflow_prediction_ids"]) == 26
    output = body["outputs"][0]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [1, 10])
    assert np.argmax(output["data"]) == 3


def test_nested_data_is_taken_too(serve, row):
    client = serve()
    client.post(INFER, json={"inputs": [tensor([row, row], shape=[2, 64])]})
    assert client.engine.requests[0].inputs["pixels"].shape == (2, 64)


def test_binary_in_and_out_without_a_content_type(serve, row):
    data = np.array(row, dtype="<f4").tobytes()
    item = tensor(row, parameters={"binary_data_size": len(data)})
    del item["data"]
    document = {"inputs": [item], "parameters": {"binary_data_output": True}}
    head, raw = split(serve().post(INFER, **binary(document, data)))
    assert head["outputs"][0]["parameters"] == {"binary_data_size": 40}
    assert np.frombuffer(raw, "<f4").argmax() == 3


def test_an_outputs_own_flag_prevails_over_the_default(serve, row):
    document = {
        "inputs": [tensor(row)],
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "logits", "parameters": {"binary_data": False}}],
    }
    assert len(serve().post(INFER, json=document).json()["outputs"][0]["data"]) == 10


def test_a_raw_request_is_the_input_and_nothing_else(serve, row):
    data = np.array([row, row], dtype="<f4").tobytes()
    reply = serve().post(INFER, content=data, headers={"Inference-Header-Content-Length": "0"})
    head, raw = split(reply)
    assert head["outputs"][0]["shape"] == [2, 10]
    assert len(raw) == 80


@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64"),
    ],
)
def test_every_datatype_returns_as_it_came(serve, dtype):
    array = np.array([[0, 1, 1]], dtype=dtype)
    client = serve(**echo(dtype, 3))
    datatype = client.get("/v2/models/digits").json()["inputs"][0]["datatype"]
    item = {"name": "x", "datatype": datatype, "shape": [1, 3]}
    packed = {**item, "parameters": {"binary_data_size": array.nbytes}}
    document = {"inputs": [packed], "parameters": {"binary_data_output": True}}
    head, raw = split(client.post(INFER, **binary(document, array.tobytes())))
    assert (head["outputs"][0]["datatype"], raw) == (datatype, array.tobytes())
    reply = client.post(INFER, json={"inputs": [{**item, "data": array.tolist()}]})
    if dtype == "float16":
        assert "FP16 must be sent as binary data" in reply.json()["error"]
    else:
        assert reply.json()["outputs"][0]["data"] == array[0].tolist()


def test_bytes_elements_carry_their_length(serve):
    client = serve(**echo("str", 2))
    data = b"".join(struct.pack("<I", len(x)) + x for x in ("ä".encode(), b""))
    item = {"name": "x", "datatype": "BYTES", "shape": [1, 2]}
    document = {
        "inputs": [{**item, "parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True},
    }
    assert split(client.post(INFER, **binary(document, data)))[1] == data
    reply = client.post(INFER, json={"inputs": [{**item, "data": ["ä", ""]}]})
    assert reply.json()["outputs"][0]["data"] == ["ä", ""]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\x05\0\0\0ab", "BYTES element 0 must end within the data"),
        (b"\x01\0", "BYTES element 0 must end within the data"),
        (b"\x01\0\0\0\xff\0\0\0\0", "BYTES element 0 must be UTF-8"),
        (b"\0\0\0\0", "inputs[0] must have 2 BYTES elements, as its shape says, got 1"),
    ],
)
def test_malformed_bytes_are_400(serve, data, says):
    item = {
        "name": "x",
        "datatype": "BYTES",
        "shape": [1, 2],
        "parameters": {"binary_data_size": len(data)},
    }
    reply = serve(**echo("str", 2)).post(INFER, **binary({"inputs": [item]}, data))
    assert reply.status_code == 400
    assert says in reply.json()["error"]


def test_classification_lists_the_best_classes_with_their_labels(serve, row):
    client = serve(labels=tuple("abcdefghij"))
    document = {
        "inputs": [tensor(row)],
        "outputs": [{"name": "logits", "parameters": {"classification": 2}}],
    }
    output = client.post(INFER, json=document).json()["outputs"][0]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    assert output["data"] == ["5.000000:3:d", "0.000000:0:a"]


def test_the_tighter_of_timeout_and_deadline_header_counts(serve, row):
    client = serve()
    document = {"inputs": [tensor(row)], "parameters": {"timeout": 20_000}}
    client.post(INFER, json=document)
    client.post(INFER, json=document, headers={"Scanflow-Deadline-Ms": "5"})
    assert [request.deadline_ms for request in client.engine.requests] == [20.0, 5.0]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "body must be a JSON object, got []"),
        ({"id": 5}, "id must be a string, got 5"),
        ({"parameters": []}, "parameters must be an object, got []"),
        ({}, "inputs must be a list of tensors, got nothing"),
        ({"inputs": [1]}, "inputs[0] must be an object, got 1"),
        ({"inputs": [{"name": "x"}]}, "inputs[0].name must be one of ['pixels'], got 'x'"),
        ({"inputs": []}, "inputs must have ['pixels'], all of them, but lack ['pixels']"),
        ({"inputs": [tensor([1] * 64)] * 2}, "inputs[1].name must be given once"),
        ({"inputs": [tensor([], datatype="BF16")]}, "inputs[0].datatype must be FP32"),
        ({"inputs": [tensor([], shape=[-1, 64])]}, "must be a list of integers >= 0, got [-1, 64]"),
        ({"inputs": [tensor([], shape=[True, 64])]}, "must be a list of integers >= 0"),
        ({"inputs": [tensor([], shape=[0, 64])]}, "inputs[0].shape must have at least one row"),
        ({"inputs": [tensor([], shape=[2**62, 64])]}, "inputs[0].shape must hold <= 2147483648"),
        ({"inputs": [tensor([], shape=[1, 63])]}, "inputs[0].shape must have shape [-1, 64]"),
        ({"inputs": [tensor([1] * 63)]}, "inputs[0].data must have 64 elements, as shape [1, 64]"),
        ({"inputs": [tensor("x")]}, "inputs[0].data must be a list, got 'x'"),
        ({"inputs": [tensor([[1] * 63 + ["x"]])]}, "inputs[0].data[0][63] must be a number"),
        ({"inputs": [tensor([1] * 64, parameters=1)]}, "inputs[0].parameters must be an object"),
        (
            {"inputs": [tensor([1] * 64, parameters={"binary_data_size": 9})]},
            "binary_data_size must be 0 to 0, the bytes that are left after the JSON, got 9",
        ),
        (
            {"inputs": [tensor([1] * 64, parameters={"shared_memory_region": "r"})]},
            "shared memory is not supported",
        ),
        ({"inputs": [tensor([1] * 64)], "outputs": 1}, "outputs must be a list, got 1"),
        ({"inputs": [tensor([1] * 64)], "outputs": [{}]}, "outputs[0].name must be one of"),
        (
            {"inputs": [tensor([1] * 64)], "outputs": [{"name": "logits"}] * 2},
            "outputs[1].name must be given once",
        ),
        (
            {"inputs": [tensor([1] * 64)], "parameters": {"binary_data_output": 1}},
            "parameters.binary_data_output must be true or false, got 1",
        ),
        (
            {"inputs": [tensor([1] * 64)], "parameters": {"timeout": "1"}},
            "parameters.timeout must be 0 to 9007199254740992 µs, got '1'",
        ),
        (
            {
                "inputs": [tensor([1] * 64)],
                "outputs": [{"name": "logits", "parameters": {"classification": -1}}],
            },
            "outputs[0].parameters.classification must be an integer >= 0",
        ),
    ],
)
def test_a_malformed_request_is_400_and_names_the_place(serve, document, says):
    reply = serve().post(INFER, json=document)
    assert reply.status_code == 400
    assert says in reply.json()["error"]


@pytest.mark.parametrize(
    ("length", "content", "says"),
    [
        ("99999", b"{}", "Inference-Header-Content-Length must be 0 to 2"),
        ("-1", b"{}", "Inference-Header-Content-Length must be 0 to 2"),
        ("x", b"{}", "Inference-Header-Content-Length must be 0 to 2"),
        ("9" * 40, b"{}", "Inference-Header-Content-Length must be 0 to 2"),
        ("0", b"abc", "body must be a multiple of 256 bytes, one row, got 3 bytes"),
        ("0", b"", "body must be a multiple of 256 bytes"),
    ],
)
def test_a_bad_header_length_is_400(serve, length, content, says):
    headers = {"Inference-Header-Content-Length": length}
    reply = serve().post(INFER, content=content, headers=headers)
    assert reply.status_code == 400
    assert says in reply.json()["error"]


def test_bytes_behind_the_last_tensor_are_400(serve, row):
    reply = serve().post(INFER, **binary({"inputs": [tensor(row)]}, b"more"))
    assert "body must end with the last binary tensor, got 4 bytes more" in reply.json()["error"]


def test_not_a_number_is_null_in_json_and_itself_in_binary(serve, row):
    client = serve(run=lambda inputs: {"logits": np.full((1, 10), np.nan, np.float32)})
    assert client.post(INFER, json={"inputs": [tensor(row)]}).json()["outputs"][0]["data"] == (
        [None] * 10
    )
    document = {"inputs": [tensor(row)], "parameters": {"binary_data_output": True}}
    _, raw = split(client.post(INFER, json=document))
    assert np.isnan(np.frombuffer(raw, "<f4")).all()


def test_statistics_count_rows_and_calls(serve, row):
    client = serve()
    client.post(INFER, json={"inputs": [tensor(row)]})
    client.post(INFER, json={"inputs": [tensor(row * 2, shape=[2, 64])]})
    for path in ("/v2/models/digits/stats", "/v2/models/stats"):
        entry = client.get(path).json()["model_stats"][0]
        assert (entry["name"], entry["inference_count"], entry["execution_count"]) == (
            "digits",
            3,
            2,
        )
        assert entry["inference_stats"]["compute_infer"] == {"count": 2, "ns": 1_000_000}
        assert [batch["batch_size"] for batch in entry["batch_stats"]] == [1, 2]


def test_any_byte_but_zero_is_true_in_a_binary_bool(serve):
    signature = Signature(
        (TensorSpec("flag", "bool", (None,)),), (TensorSpec("same", "bool", (None,)),)
    )
    client = serve(signature=signature, run=lambda i: {"same": i["flag"]}, output=None)
    headers = {"inference-header-content-length": "0"}
    reply = client.post("/v2/models/digits/infer", content=b"\0\1\7\xff", headers=headers)
    assert reply.content.endswith(b"\0\1\1\1")
