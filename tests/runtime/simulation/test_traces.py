from __future__ import annotations

from pathlib import Path

import pytest

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.runtime.simulation.arrivals import Arrival
from scanflow_serve.runtime.simulation.traces import read


def trace(tmp_path: Path, text: str, name: str = "trace.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


FULL = [
    Arrival(0.0, 1, "", None, 0),
    Arrival(0.5, 4, "camera", 25.0, -1),
]


def test_csv_gives_what_its_columns_say_and_defaults_for_empty_cells(tmp_path: Path) -> None:
    text = "arrival_s,rows,client,deadline_ms,priority\n10.0,,,,\n10.5,4,camera,25,-1\n"
    assert read(trace(tmp_path, text)) == FULL


def test_jsonl_gives_the_same(tmp_path: Path) -> None:
    text = (
        '{"arrival_s": 10.0}\n\n'
        '{"arrival_s": 10.5, "rows": 4, "client": "camera", "deadline_ms": 25, "priority": -1}\n'
    )
    assert read(trace(tmp_path, text, "trace.jsonl")) == FULL


def test_arrivals_are_sorted_and_begin_at_zero(tmp_path: Path) -> None:
    found = read(trace(tmp_path, "arrival_s\n1700000002\n1700000000\n1700000001\n"))
    assert [arrival.at for arrival in found] == [0, 1, 2]


def test_seconds_keep_the_beginning(tmp_path: Path) -> None:
    found = read(trace(tmp_path, "arrival_s\n5\n6\n7\n8\n"), seconds=2)
    assert [arrival.at for arrival in found] == [0, 1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "arrival_s\n1\nsoon\n", r"t\.csv:3: arrival_s: .*valid number.*got 'soon'"),
        ("t.csv", "arrival_s\nnan\n", r"t\.csv:2: arrival_s: .*finite"),
        ("t.csv", "at\n1\n", r"t\.csv:2: arrival_s: Field required, got nothing"),
        ("t.csv", "arrival_s,rows\n1,0\n", r"t\.csv:2: rows: .*greater than or equal to 1"),
        ("t.csv", "arrival_s\n1,2\n", r"t\.csv:2: beyond the last column: Unexpected"),
        ("t.csv", "arrival_s\n", r"must hold 1 to 1,000,000 requests, got 0"),
        ("t.jsonl", '{"arrival_s": 1}\n{"arrival_s"\n', r"t\.jsonl:2: must be a JSON object"),
        ("t.jsonl", "[1]\n", r"t\.jsonl:1: Input should be a dictionary or an instance of"),
        ("t.jsonl", '{"arrival_s": 1, "deadline_ms": 0}', r"t\.jsonl:1: deadline_ms: .*than 0"),
        ("t.txt", "1\n", r"--trace: must be a \.csv or \.jsonl file, or a load such as poisson"),
    ],
)
def test_malformed_trace_is_refused_with_its_line_and_the_cure(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(trace(tmp_path, text, name))


def test_ten_faults_are_told_at_once_and_no_more(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="A line gives arrival_s") as caught:
        read(trace(tmp_path, "arrival_s\n" + "x\n" * 50))
    assert len(str(caught.value).splitlines()) == 11


def test_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.csv: must be readable, got 'No such file"):
        read(tmp_path / "none.csv")
    (tmp_path / "binary.csv").write_bytes(b"arrival_s\n\xff\xfe\n")
    with pytest.raises(UsageError, match=r"binary\.csv: must be text in UTF-8"):
        read(tmp_path / "binary.csv")
