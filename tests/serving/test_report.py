"""The table of a plan: nothing in it is cut off, however narrow the terminal."""

from __future__ import annotations

import io

import pytest
from planning_worlds import candidate, measurement
from rich.console import Console

from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.plan import Verdict
from scanflow_serve.serving.report import plan_table

CHOSEN = "digits-cnn-large/onnxruntime-fp32x1"
OTHER = "digits-cnn/onnxruntime-fp32x16"
REASON = "as accurate, but slower: latency p95 12.375 ms > 0.0282 ms"


def printed(width: int) -> list[str]:
    verdicts = [
        Verdict(candidate(CHOSEN), measurement(p95_ms=0.0282, accuracy=0.993), None),
        Verdict(candidate(OTHER), measurement(p95_ms=12.375), Refusal("objective", REASON)),
    ]
    out = Console(file=io.StringIO(), width=width)
    out.print(plan_table(verdicts, title="digits", width=width))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.parametrize("width", [70, 80, 100, 120, 140, 160, 200])
def test_ids_figures_and_reasons_are_whole_at_any_width(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).replace("│", " ").split()
    joined = "".join(words)
    for figure in ("0.0282", "0.993", "12.4", "0.900", "1000"):
        assert figure in words
    for word in REASON.split():
        assert word in joined
    if width >= 100:
        assert f"classify:{CHOSEN}" in words
        assert f"classify:{OTHER}" in words


def test_reasons_have_a_column_where_there_is_room_and_stand_below_where_not() -> None:
    assert any("why not" in line for line in printed(160))
    assert not any("why not" in line for line in printed(100))


def test_frame_is_closed_on_the_right() -> None:
    assert all(line[-1] in "┓┃┩│┘" for line in printed(160)[1:])
