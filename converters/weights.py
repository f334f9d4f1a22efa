"""What the weights of a model file are really stored in.

A conversion to int8 may find little that it can convert: of a recurrent network often the last
layer alone. The file is then named for what was asked for, and this says what it is.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from scanflow_serve.converters.onnx_structure import read_structure
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.artifacts import Artifact

# Element types of IR that weights have; i64, i32 and boolean are sizes and indices.
ELEMENTS = {
    "f64": "fp32",
    "f32": "fp32",
    "f16": "fp16",
    "bf16": "bf16",
    "i8": "int8",
    "u8": "int8",
    "i4": "int4",
    "u4": "int4",
}
STORED_IN = {"int8": "int8", "w8": "int8", "w16": "fp16"}  # precision -> that of its weights
MOST = 0.5  # of the weights; with fewer, a file computes as it did before


def shares(artifact: Artifact) -> dict[str, float]:
    """Return the share of the weights by what they are stored in, the largest first.

    Raises:
        ArtifactError: The file is malformed.
    """
    if artifact.format == "onnx":
        counts = read_structure(artifact.path).elements
    else:
        counts = _ir_elements(artifact.path)
    total = counts.total()
    return {kind: round(count / total, 4) for kind, count in counts.most_common() if count}


def effective(precision: str, stored: Mapping[str, float]) -> str:
    """Return the precision of most weights in a file that was converted to *precision*.

    >>> effective("int8", {"fp32": 0.98, "int8": 0.02}), effective("w8", {"int8": 0.99})
    ('fp32', 'w8')
    """
    wanted = STORED_IN.get(precision, precision)
    if not stored or stored.get(wanted, 0.0) >= MOST:
        return precision
    return max(stored, key=lambda kind: stored[kind])


def _ir_elements(path: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    try:
        for _, layer in ElementTree.iterparse(path):
            if layer.tag == "layer" and layer.get("type") == "Const":
                data = layer.find("data")
                kind = ELEMENTS.get(data.get("element_type", "")) if data is not None else None
                if kind is not None and data is not None:
                    counts[kind] += math.prod(map(int, re.findall(r"\d+", data.get("shape", ""))))
    except ElementTree.ParseError as error:
        raise ArtifactError(
            f"{path}: must be OpenVINO IR, got {error}. Convert it again."
        ) from None
    return counts
