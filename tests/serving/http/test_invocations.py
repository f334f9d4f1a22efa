from __future__ import annotations

import numpy as np
import pytest

from scanflow_serve.runtime.tensors import Signature, TensorSpec

FLOWER = Signature(
    (
        TensorSpec("width", "float32", (None, 1)),
        TensorSpec("kind", "str", (None, 1)),
        TensorSpec("count", "int64", (None,)),
    ),
    (TensorSpec("score", "float32", (None,)),),
)


def score(inputs):
    long = np.array([len(kind) for kind in inputs["kind"][:, 0]], dtype=np.float32)
    return {"score": inputs["width"][:, 0] + long + inputs["count"].astype(np.float32)}


@pytest.fixture
def flowers(serve):
    return serve(signature=FLOWER, run=score, output=None)


def test_the_four_forms_give_the_same_answer(serve, row):
    client = serve()
    columns = [f"p{i}" for i in range(64)]
    forms = [
        {"inputs": [row]},
        {"inputs": {"pixels": [row]}},
        {"instances": [row]},
        {"instances": [{"pixels": row}]},
        {"dataframe_split": {"columns": columns, "index": [0], "data": [row]}},
        {"dataframe_split": {"data": [row]}},
        {"dataframe_records": [dict(zip(columns, row, strict=True))]},
        {"inputs": [row], "params": {}},
    ]
    for form in forms:
        reply = client.post("/invocations", json=form)
        assert reply.json()["predictions"] == [row[:10]], form


def test_csv_has_a_header(serve, row):
    text = ",".join(f"p{i}" for i in range(64)) + "\n" + ",".join(map(str, row)) + "\n"
    reply = serve().post("/invocations", content=text, headers={"content-type": "text/csv"})
    assert reply.json()["predictions"] == [row[:10]]


def test_columns_find_their_inputs_by_name(flowers):
    split = {"columns": ["count", "width", "kind"], "data": [[2, 1.5, "rose"]]}
    records = [{"kind": "rose", "count": 2, "width": 1.5}]
    csv = "kind,count,width\nrose,2,1.5\n"
    replies = [
        flowers.post("/invocations", json={"dataframe_split": split}),
        flowers.post("/invocations", json={"dataframe_records": records}),
        flowers.post("/invocations", content=csv, headers={"content-type": "text/csv"}),
    ]
    assert [reply.json()["predictions"] for reply in replies] == [[7.5]] * 3


def test_several_outputs_go_by_name(serve, row):
    client = serve(
        run=lambda inputs: {"a": inputs["pixels"][:, :1], "b": inputs["pixels"][:, 3]}, output=None
    )
    reply = client.post("/invocations", json={"inputs": [row]})
    assert reply.json()["predictions"] == {"a": [[0.0]], "b": [5.0]}


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({}, "exactly one of dataframe_split, dataframe_records, instances, inputs"),
        ({"inputs": [], "instances": []}, "exactly one of dataframe_split"),
        ({"inputs": [1], "params": {"a": 1}}, "params must be empty"),
        ({"dataframe_split": []}, "dataframe_split must be an object of columns, data and index"),
        ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split.data must be a list of rows"),
        (
            {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}},
            "dataframe_split.columns must be unique",
        ),
        (
            {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
            "dataframe_split.data[0] must have 1 cells, got 2",
        ),
        ({"dataframe_split": {"data": [[None] * 64]}}, "dataframe_split.data[0][0] must be a num"),
        ({"dataframe_records": []}, "dataframe_records must be a list of at least one object"),
        ({"dataframe_records": [{"a": 1}, {"b": 1}]}, "dataframe_records[1] must have exactly"),
        ({"instances": []}, "instances must be a list of at least one"),
        ({"instances": [{"x": 1}]}, "instances[0] must have exactly the names ['pixels']"),
        ({"instances": [{"pixels": 1}, 2]}, "instances[1] must have exactly the names"),
    ],
)
def test_a_malformed_form_is_400_and_names_the_place(serve, form, says):
    reply = serve().post("/invocations", json=form)
    assert reply.status_code == 400
    assert says in reply.json()["detail"]


@pytest.mark.parametrize(
    ("csv", "says"),
    [
        ("kind,count\nrose,2\n", "csv's columns must have exactly the names"),
        ("kind,count,width\nrose,2.5,1\n", "csv[0][1] must be a whole number, got '2.5'"),
        ("kind,count,width\nrose,2,\n", "csv[0][2] must be a number, got ''"),
        ("kind,count,width\n", "csv must have at least one row"),
    ],
)
def test_a_table_that_does_not_fit_is_400(flowers, csv, says):
    reply = flowers.post("/invocations", content=csv, headers={"content-type": "text/csv"})
    assert reply.status_code == 400
    assert says in reply.json()["detail"]


def test_another_media_type_is_415(serve):
    reply = serve().post("/invocations", content=b"", headers={"content-type": "image/png"})
    assert reply.status_code == 415
    assert "must be application/json or text/csv" in reply.json()["detail"]


def test_ping_and_version_are_mlflows(serve):
    client = serve()
    assert client.get("/ping").content == b"\n"
    assert client.get("/version").text.count(".") == 2


def test_every_row_has_its_id_though_the_header_has_only_the_first(serve, row):
    reply = serve().post("/invocations", json={"inputs": [row] * 70})
    ids = reply.json()["scanflow_prediction_ids"]
    assert len(set(ids)) == 70
    assert reply.headers["scanflow-prediction-id"].split(",") == [*ids[:64], "+6"]
