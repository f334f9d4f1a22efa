"""Integrity over HTTP: refused with row and rule, or answered and told, on every protocol."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.tensors import Signature, TensorSpec
from scanflow_serve.serving import environment

DATA = Path(__file__).parents[2] / "contract" / "data"
RANGE = "range: {pixels: [0, 16]}"


def check(on_fail: str, more: str = RANGE) -> str:
    return f"checks:\n  - integrity: {{on_fail: {on_fail}, {more}}}"


@pytest.fixture
def rows() -> list[list[float]]:
    """Return three digits, the second with a pixel of 99 at place 5."""
    with np.load(DATA / "digits-test.npz") as file:
        found = file["pixels"][:3].astype(np.float32)
    found[1, 5] = 99
    return found.tolist()


def oip(rows):
    tensor = {"name": "pixels", "datatype": "FP32", "shape": [len(rows), 64], "data": rows}
    return {"inputs": [tensor]}


def test_without_a_check_replies_have_no_verdicts(serve, rows):
    client = serve()
    assert "checks" not in client.post("/predict", json={"inputs": rows}).json()
    assert client.app.application._tenure.site.guard is None


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/predict", lambda rows: {"inputs": rows}, "inputs[1][5]"),
        ("/predict", lambda rows: {"inputs": rows[1]}, "inputs[5]"),
        ("/predict", lambda rows: {"inputs": {"pixels": rows}}, "inputs[1][5]"),
        ("/invocations", lambda rows: {"instances": rows}, "instances[1][5]"),
        ("/invocations", lambda rows: {"dataframe_split": {"data": rows}}, "dataframe_split.data"),
        ("/v2/models/digits/infer", oip, "inputs[0].data[1][5]"),
        ("/v2/models/digits-mlp/infer", oip, "inputs[0].data[1][5]"),
    ],
)
def test_row_out_of_range_is_422_with_its_place_and_rule(serve, rows, path, body, place):
    client = serve(check("refuse"))
    reply = client.post(path, json=body(rows))
    assert reply.status_code == 422
    text = reply.json()["error" if path.startswith("/v2") else "detail"]
    assert text.startswith(place)
    assert "must be between 0 and 16, got 99.0. Rule 'range' of check 'integrity'" in text
    assert client.engine.requests == []  # nothing was answered


def test_csv_out_of_range_is_422(serve, rows):
    body = "\n".join(",".join(map(str, row)) for row in rows)
    reply = serve(check("refuse")).post(
        "/predict", content=body, headers={"content-type": "text/csv"}
    )
    assert (reply.status_code, reply.json()["detail"][:9]) == (422, "csv[1][5]")


def test_clean_rows_are_answered_and_said_to_be(serve, rows):
    client = serve(check("refuse"))
    reply = client.post("/predict", json={"inputs": [rows[0], rows[2]]}).json()
    assert reply["checks"] == [[], []]


def test_predict_tells_each_row_what_is_wrong(serve, rows):
    reply = serve(check("flag")).post("/predict", json={"inputs": rows})
    assert reply.status_code == 200
    verdict = {
        "check": "integrity",
        "rule": "range",
        "at": "pixels[5]",
        "value": 99.0,
        "expected": "between 0 and 16",
    }
    assert reply.json()["checks"] == [[], [verdict], []]


def test_single_row_has_a_single_list(serve, rows):
    reply = serve(check("flag")).post("/predict", json={"inputs": rows[1]})
    assert [each["rule"] for each in reply.json()["checks"]] == ["range"]


def test_invocations_tells_each_row_what_is_wrong(serve, rows):
    reply = serve(check("flag")).post("/invocations", json={"instances": rows}).json()
    assert [[each["rule"] for each in row] for row in reply["scanflow_checks"]] == [
        *([], ["range"], [])
    ]


def test_oip_tells_in_a_flat_parameter(serve, rows):
    client = serve(check("flag"))
    clean = client.post("/v2/models/digits/infer", json=oip(rows[:1])).json()
    flagged = client.post("/v2/models/digits/infer", json=oip(rows[1:])).json()
    assert "scanflow_flags" not in clean["parameters"]
    assert flagged["parameters"]["scanflow_flags"] == "0:integrity.range"


def test_repaired_row_is_what_the_model_gets(serve, rows):
    client = serve(check("repair"))
    reply = client.post("/predict", json={"inputs": rows}).json()
    assert reply["checks"][1][0]["repaired"] == 16.0
    assert client.engine.requests[0].inputs["pixels"][1, 5] == 16.0


def test_nan_in_a_binary_body_is_refused(serve, rows):
    pixels = np.array(rows, np.float32)[:1]
    pixels[0, 7] = np.nan
    reply = serve(check("refuse")).post(
        "/v2/models/digits/infer",
        content=pixels.tobytes(),
        headers={"inference-header-content-length": "0"},
    )
    assert reply.status_code == 422
    assert reply.json()["error"].startswith("body[0][7] must be a number, got nothing")


def test_inferred_schema_is_kept_for_review_and_read_again(serve, rows, tmp_path):
    environ = {"SCANFLOW_STATE": str(tmp_path)}
    serve(check("flag", "schema: infer"), environ=environ)
    kept = tmp_path / "checks" / "integrity.schema.yaml"
    text = kept.read_text()
    assert "inferred from data/digits-" in text
    kept.write_text(text.replace("range: [0.0, 17.6]", "range: [0.0, 100.0]"))
    assert kept.read_text() != text
    reply = serve(check("flag", "schema: infer"), environ=environ).post(
        "/predict", json={"inputs": rows}
    )
    assert reply.json()["checks"] == [[], [], []]  # what a person corrected is what holds


def test_schema_of_other_data_is_inferred_anew_and_the_old_one_kept(serve, tmp_path):
    environ = {"SCANFLOW_STATE": str(tmp_path)}
    folder = tmp_path / "checks"
    serve(check("flag", "schema: infer"), environ=environ)
    first = (folder / "integrity.schema.yaml").read_text()
    serve(
        check("flag", "schema: infer, reference: data/digits-test.npz, input: pixels"),
        environ=environ,
    )
    assert "digits-test.npz" in (folder / "integrity.schema.yaml").read_text()
    assert (folder / "integrity.schema.yaml.old").read_text() == first


def test_several_checks_are_all_told(serve, rows):
    policy = f"{check('flag')}\n  - integrity: {{name: dark, range: {{pixels: [0, 15.5]}}}}"
    reply = serve(policy).post("/predict", json={"inputs": rows}).json()
    assert {each["check"] for each in reply["checks"][1]} == {"integrity", "dark"}


def test_setting_that_fits_no_column_stops_the_start(serve):
    with pytest.raises(UsageError, match=r"checks\[0\]\.integrity: range must name an input"):
        serve(check("flag", "range: {pixel: [0, 16]}"))


COLUMNS = ("age", "height", "weight")


@pytest.fixture
def people(serve, tmp_path):
    """Return a function that serves a model of three named columns."""

    shutil.copytree(DATA.parent, tmp_path, dirs_exist_ok=True)

    def begin(on_fail):
        random = np.random.default_rng(0)
        ages = random.uniform((20, 150, 50), (60, 200, 100), (200, 3))
        lines = [",".join(COLUMNS), *(",".join(f"{x:.2f}" for x in row) for row in ages)]
        (tmp_path / "people.csv").write_text("\n".join(lines))
        signature = Signature(
            (TensorSpec("person", "float32", (None, 3)),), (TensorSpec("y", "float32", (None, 3)),)
        )
        return serve(
            f"checks:\n  - integrity: {{on_fail: {on_fail}, reference: people.csv}}",
            folder=tmp_path,
            signature=signature,
            run=lambda inputs: {"y": inputs["person"]},
            output=None,
        )

    return begin


def frame(*rows, columns=COLUMNS):
    return {"dataframe_split": {"columns": list(columns), "data": [list(row) for row in rows]}}


def test_named_columns_are_inferred_from_a_table(people):
    reply = people("flag").post("/invocations", json=frame((30, 170, 60), (30, 170, 999))).json()
    assert [[(v["rule"], v["at"]) for v in row] for row in reply["scanflow_checks"]] == [
        [],
        [("range", "person.weight")],
    ]


@pytest.mark.parametrize(
    ("cell", "rule", "got"),
    [(None, "null", None), ("n/a", "format", "n/a"), ("61,5", "format", "61,5")],
)
def test_cell_that_is_no_value_is_422_or_repaired_by_the_median(people, cell, rule, got):
    body = frame((30, 170, cell))
    refused = people("refuse").post("/invocations", json=body)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("dataframe_split.data[0].weight must be a number")
    client = people("repair")
    (verdict,) = client.post("/invocations", json=body).json()["scanflow_checks"][0]
    assert (verdict["rule"], verdict["value"]) == (rule, got)
    assert 70 < verdict["repaired"] < 80
    assert client.engine.requests[0].inputs["person"][0, 2] == np.float32(verdict["repaired"])


def test_missing_value_is_answered_as_nan_where_it_is_to_be_flagged(people):
    client = people("flag")
    reply = client.post("/invocations", json=frame((30, 170, None))).json()
    assert reply["scanflow_checks"][0][0]["rule"] == "null"
    assert np.isnan(client.engine.requests[0].inputs["person"][0, 2])


def test_number_in_quotes_is_answered_and_told(people):
    client = people("flag")
    reply = client.post("/invocations", json=frame((30, "170.5", 60))).json()
    assert [verdict["rule"] for verdict in reply["scanflow_checks"][0]] == ["dtype"]
    assert client.engine.requests[0].inputs["person"][0, 1] == 170.5


def test_csv_cell_that_is_no_number_is_repaired(people):
    client = people("repair")
    text = "age,height,weight\n30,unknown,60\n"
    reply = client.post("/invocations", content=text, headers={"content-type": "text/csv"}).json()
    assert [verdict["at"] for verdict in reply["scanflow_checks"][0]] == ["person.height"]
    assert 170 < client.engine.requests[0].inputs["person"][0, 1] < 180


def test_columns_in_another_order_are_put_right_and_told(people):
    client = people("flag")
    body = frame((60, 30, 170), columns=("weight", "age", "height"))
    reply = client.post("/invocations", json=body).json()
    assert [verdict["rule"] for verdict in reply["scanflow_checks"][0]] == ["order"]
    assert client.engine.requests[0].inputs["person"].tolist() == [[30, 170, 60]]


def test_unknown_column_is_left_out_and_told(people):
    client = people("flag")
    body = frame((30, "Ann", 170, 60), columns=("age", "name", "height", "weight"))
    reply = client.post("/invocations", json=body).json()
    (verdict,) = reply["scanflow_checks"][0]
    assert (verdict["rule"], verdict["value"]) == ("unknown", "['name']")
    assert client.engine.requests[0].inputs["person"].tolist() == [[30, 170, 60]]
    assert people("refuse").post("/invocations", json=body).status_code == 422


def test_missing_column_is_422_or_repaired(people):
    body = frame((30, 170), columns=("age", "height"))
    for on_fail in ("refuse", "flag"):
        reply = people(on_fail).post("/invocations", json=body)
        assert (reply.status_code, "Rule 'missing'" in reply.text) == (422, True)
    reply = people("repair").post("/invocations", json=body).json()
    assert [verdict["rule"] for verdict in reply["scanflow_checks"][0]] == ["missing"]


def test_record_that_lacks_a_column_is_repaired(people):
    records = [{"age": 30, "height": 170, "weight": 60}, {"age": 31, "height": 171}]
    reply = people("repair").post("/invocations", json={"dataframe_records": records}).json()
    assert [[v["rule"] for v in row] for row in reply["scanflow_checks"]] == [[], ["missing"]]


def test_null_in_an_oip_tensor_is_refused_by_its_place(serve, rows):
    rows[0][3] = None
    reply = serve(check("refuse")).post("/v2/models/digits/infer", json=oip(rows))
    assert reply.status_code == 422
    assert reply.json()["error"].startswith("inputs[0].data[0][3] must be a number, got nothing")


def test_more_bad_cells_than_can_be_told_are_refused(serve):
    reply = serve(check("repair")).post("/predict", json={"inputs": [["x"] * 64] * 200})
    assert reply.status_code == 422
    assert "must have <= 10000 cells that are no values" in reply.json()["detail"]


def test_without_a_check_cells_that_are_no_values_are_400(serve, rows):
    rows[0][3] = "n/a"
    reply = serve().post("/predict", json={"inputs": rows})
    assert (reply.status_code, reply.json()["detail"][:17]) == (400, "inputs[0][3] must")


def test_rows_that_were_refused_are_shown_to_people_with_the_rule(serve, rows, tmp_path):
    client = serve(check("refuse"), environ={environment.STATE: str(tmp_path)})
    client.post("/predict", json={"inputs": rows})
    (shown,) = client.get("/checks/integrity/rows").json()["rows"]
    assert (shown["refused"], shown["label"]) == (True, None)
    assert shown["why"] == "pixels[5] must be between 0 and 16, got 99.0"
    assert shown["inputs"][0]["values"][5] == 99.0
    assert client.get(f"/checks/integrity/rows?after={shown['id']}").json()["rows"] == []


def test_rows_that_were_answered_all_the_same_are_shown_by_their_prediction_id(
    serve, rows, tmp_path
):
    image = "serve: {image: {mode: L, width: 8, height: 8, layout: flat}}"
    section = f"{check('repair')}\n{image}"
    client = serve(section, environ={environment.STATE: str(tmp_path)})
    reply = client.post("/predict", json={"inputs": rows})
    ids = reply.headers["scanflow-prediction-id"].split(",")
    (shown,) = client.get("/checks/integrity/rows").json()["rows"]
    assert (shown["id"], shown["refused"]) == (ids[1], False)
    picture = shown["inputs"][0]["picture"]
    assert (picture["height"], picture["width"]) == (8, 8)
    assert picture["pixels"][5] == 255  # as it came, not as it was repaired
