"""Integrity over HTTP: refused with row and rule, or answered and told, on every protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scanflow_serve.policies.errors import UsageError

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
    assert client.app.application._site.guard is None


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
