"""``…/infer``: writing the reply, JSON or binary, compressed if the client takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.inspection import flags
from scanflow_serve.runtime.requests import Response
from scanflow_serve.runtime.tensors import Array
from scanflow_serve.serving.http import oip_tensors
from scanflow_serve.serving.http.exchange import DUMP, JSON, Reply
from scanflow_serve.serving.http.site import answer_headers

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Served

BINARY = b"application/octet-stream"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output that the client asked for.

    Attributes:
        classes: Triton's classification extension: the N best as ``VALUE:INDEX[:LABEL]``; 0: off.
    """

    name: str
    binary: bool = False
    classes: int = 0


def infer_reply(
    served: Served,
    identity: str | None,
    wanted: tuple[Wanted, ...],
    response: Response,
) -> Reply:
    """Return the reply to an inference request, with the *wanted* outputs in that order."""
    outputs: list[dict[str, Any]] = []
    chunks: list[bytes] = []
    for want in wanted:
        array = response.outputs[want.name]
        if want.classes:
            array = best_classes(array, want.classes, response.labels, want.name)
        entry: dict[str, Any] = {
            "name": want.name,
            "datatype": oip_tensors.datatype_of(array),
            "shape": array.shape,
        }
        if want.binary:
            chunks.append(oip_tensors.to_binary(array))
            entry["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            entry["data"] = oip_tensors.to_json(array)
        outputs.append(entry)
    document: dict[str, Any] = {
        "model_name": served.name,
        "model_version": served.version,
        "parameters": {
            "scanflow_prediction_ids": ",".join(response.prediction_ids),
            "scanflow_variant": response.variant,
        },
        "outputs": outputs,
    }
    if response.findings:
        document["parameters"]["scanflow_flags"] = flags(response.findings)
    document["parameters"] |= _of_checks(response)
    if identity is not None:
        document["id"] = identity
    head = orjson.dumps(document, option=DUMP)
    headers = answer_headers(response)
    if not chunks:
        return Reply(200, head, JSON, headers)
    headers.append((b"inference-header-content-length", str(len(head)).encode()))
    return Reply(200, b"".join((head, *chunks)), BINARY, headers)


def _of_checks(response: Response) -> dict[str, str]:
    """Return what checks say, as the protocol's parameters hold it: flat, a text each."""
    states = response.check_states or {}
    told = {f"scanflow_{name}_state": state for name, state in states.items()}
    for name, p in response.p_values.items():
        told[f"scanflow_{name}_p_val"] = ",".join(f"{each:.6g}" for each in p)
    return told


def best_classes(array: Array, most: int, labels: tuple[str, ...] | None, name: str) -> Array:
    """Return the *most* largest values of each row as ``VALUE:INDEX[:LABEL]``, best first.

    Raises:
        RequestError: 400, the output is not numbers of shape (rows, classes).
    """
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise RequestError(
            400,
            f"outputs: classification needs numbers of shape (rows, classes), {name!r} has"
            f" {oip_tensors.datatype_of(array)} of shape {list(array.shape)}.",
        )
    order = np.argsort(-array.astype(np.float64), axis=1, kind="stable")[:, :most]
    rows = [
        [
            f"{array[row, i]:f}:{i}" + (f":{labels[i]}" if labels and i < len(labels) else "")
            for i in best
        ]
        for row, best in enumerate(order)
    ]
    return np.array(rows, dtype=object)
