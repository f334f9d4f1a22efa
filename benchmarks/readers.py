"""How answers are read; on its own, as every sending process imports it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np


def oip(status: int, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """Return the class in an Open Inference Protocol answer, and the model behind it if told."""
    if status != 200:
        return -1, ""
    logits = json.loads(body)["outputs"][0]["data"]
    return int(np.argmax(logits)), headers.get("scanflow-variant", "").partition("/")[0]


def rows(status: int, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """Return the class in an answer that is a list of rows."""
    return (-1, "") if status != 200 else (int(np.argmax(json.loads(body)[0])), "")
