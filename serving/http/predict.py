"""``POST /predict``: one name, the policy's, and the bodies that people send by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.inspection import verdicts
from scanflow_serve.runtime.requests import Response
from scanflow_serve.runtime.tensors import Array
from scanflow_serve.serving.http.exchange import Exchange, Reply, json_reply, parse_json, shown
from scanflow_serve.serving.http.images import FORMATS, UNSET
from scanflow_serve.serving.http.inputs import (
    Batch,
    batch,
    batch_of_json,
    deadline_ms,
    only_input,
    prefer,
    session,
)
from scanflow_serve.serving.http.npy import npy_array
from scanflow_serve.serving.http.site import Site, answer_headers
from scanflow_serve.serving.http.tables import batch_of_table, csv_table

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Served

ACCEPTED = ("application/json", "application/x-npy", "image/png", "image/jpeg", "text/csv")


async def predict(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /predict``."""
    served = site.main()
    body = await exchange.body()
    budget_ms, preferred = deadline_ms(exchange), prefer(exchange)
    site.turn_away(served, exchange, budget_ms, preferred)
    asked = read(body, exchange.media_type, served, site)
    response = await site.infer(
        served,
        asked.inputs,
        asked.rows,
        client=exchange.client,
        deadline_ms=budget_ms,
        prefer=preferred,
        unread=asked.unread,
        place=asked.place,
        session=session(exchange),
    )
    reply = json_reply(prediction(response, batched=asked.batched))
    reply.headers = answer_headers(response)
    return reply


def read(body: bytes, media_type: str, served: Served, site: Site) -> Batch:
    """Return the batch of a body; without a media type it is taken for JSON.

    Raises:
        RequestError: 400, 413, 415 or 422, as the body's format says.
    """
    signature = served.signature
    cells = site.cells(served)
    if media_type in ("application/json", ""):
        document = parse_json(body)
        if type(document) is not dict or document.keys() != {"inputs"}:
            raise RequestError(
                400, f'body must be {{"inputs": …}} and nothing else, got {shown(document)}.'
            )
        return batch_of_json(document["inputs"], signature, site.max_rows, cells=cells)
    if media_type == "application/x-npy":
        spec = only_input(signature, "body")
        return batch({spec.name: npy_array(body, spec)}, signature, site.max_rows, "body")
    if media_type == "text/csv":
        table = csv_table(body, signature, header=None, lenient=cells is not None)
        return batch_of_table(table, signature, site.max_rows, cells)
    if media_type in FORMATS:
        if site.images is None:
            raise RequestError(415, UNSET)
        inputs = site.images.read(body, media_type)
        return Batch(inputs, 1, batched=False, where="image")
    raise RequestError(
        415, f"Content-Type must be one of {', '.join(ACCEPTED)}, got {shown(media_type)}."
    )


def prediction(response: Response, *, batched: bool) -> dict[str, Any]:
    """Return the reply: lists with an entry a row, or single values for a single row."""
    labels = labels_of(response)
    ids: Any = response.prediction_ids
    outputs = {name: json_value(array) for name, array in response.outputs.items()}
    if not batched:
        ids = ids[0]
        labels = None if labels is None else labels[0]
        outputs = {name: json_value(array)[0] for name, array in response.outputs.items()}
    told: dict[str, Any] = {}
    if response.findings is not None:
        checks = verdicts(response.findings, len(response.prediction_ids))
        told["checks"] = checks if batched else checks[0]
    if response.check_states is not None:
        told["check_states"] = response.check_states
    if response.p_values:
        told["p_val"] = {
            name: p if batched else float(p[0]) for name, p in response.p_values.items()
        }
    return {
        "id": ids,
        "label": labels,
        "outputs": outputs,
        "model": response.model,
        "version": response.version,
        "variant": response.variant,
        "workflow": response.workflow,
        "latency_ms": round(response.queue_ms + response.compute_ms, 4),
        **told,
    }


def json_value(array: Array) -> Any:
    """Return an output as orjson writes it: nested lists."""
    if array.dtype.kind in "biuf":
        return np.ascontiguousarray(array)
    return array.tolist()


def labels_of(response: Response) -> list[Any] | None:
    """Return each row's class: its name where what answered has names, else its index.

    None where it has no classification output, or one of a single column (a score).
    """
    array = None if response.output is None else response.outputs.get(response.output)
    if array is None:
        return None
    if array.ndim == 2 and array.shape[1] > 1:
        indices: list[Any] = array.argmax(axis=1).tolist()
    elif response.kind == "label":
        indices = array.reshape(len(array), -1)[:, 0].tolist()
    else:
        return None
    names = response.labels
    if names is None:
        return indices
    return [names[i] if type(i) is int and 0 <= i < len(names) else i for i in indices]
