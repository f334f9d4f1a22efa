"""MLflow's scoring protocol: ``POST /invocations``.

Source:
    https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/#json-input
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.inspection import verdicts
from scanflow_serve.runtime.requests import Response
from scanflow_serve.runtime.tensors import Signature
from scanflow_serve.serving.http.cells import Cells
from scanflow_serve.serving.http.exchange import Exchange, Reply, json_reply, parse_json, shown
from scanflow_serve.serving.http.inputs import (
    Batch,
    batch_of_json,
    deadline_ms,
    prefer,
    session,
    unknown_names,
)
from scanflow_serve.serving.http.predict import json_value
from scanflow_serve.serving.http.site import Site, answer_headers
from scanflow_serve.serving.http.tables import (
    batch_of_table,
    csv_table,
    records_table,
    split_table,
)

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Served


async def invocations(site: Site, exchange: Exchange) -> Reply:
    """Answer ``POST /invocations``."""
    served = site.main()
    body = await exchange.body()
    budget_ms, preferred = deadline_ms(exchange), prefer(exchange)
    site.turn_away(served, exchange, budget_ms, preferred)
    asked = read(body, exchange.media_type, served, site.max_rows, site.cells(served))
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
    # Members of ours beside MLflow's: its clients read "predictions" and leave the rest alone.
    document = {
        "predictions": predictions(response),
        "scanflow_prediction_ids": response.prediction_ids,
    }
    if response.findings is not None:
        document["scanflow_checks"] = verdicts(response.findings, len(response.prediction_ids))
    if response.check_states is not None:
        document["scanflow_check_states"] = response.check_states
    if response.p_values:
        document["scanflow_p_val"] = response.p_values
    reply = json_reply(document)
    reply.headers = answer_headers(response)
    return reply


def read(
    body: bytes, media_type: str, served: Served, max_rows: int, cells: Cells | None = None
) -> Batch:
    """Return the batch of a scoring request.

    Args:
        cells: Takes what is no value of its dtype; without it that is refused.

    Raises:
        RequestError: 400, malformed; 413, too many rows; 415, neither JSON nor CSV.
    """
    signature = served.signature
    if media_type == "text/csv":
        table = csv_table(body, signature, header=True, lenient=cells is not None)
        return batch_of_table(table, signature, max_rows, cells)
    if media_type not in ("application/json", ""):
        raise RequestError(
            415, f"Content-Type must be application/json or text/csv, got {shown(media_type)}."
        )
    document = parse_json(body)
    given = document.keys() - {"params"} if type(document) is dict else set()
    if len(given) != 1 or not given <= FORMATS.keys():
        raise RequestError(
            400,
            f"body must be an object with exactly one of {', '.join(FORMATS)},"
            f" got {shown(document)}.",
        )
    if document.get("params"):
        raise RequestError(400, "params must be empty: models here take none.")
    name = given.pop()
    return FORMATS[name](document[name], signature, max_rows, cells)


def _split(value: Any, signature: Signature, max_rows: int, cells: Cells | None) -> Batch:
    return batch_of_table(split_table(value), signature, max_rows, cells)


def _records(value: Any, signature: Signature, max_rows: int, cells: Cells | None) -> Batch:
    table = records_table(value, lenient=cells is not None)
    return batch_of_table(table, signature, max_rows, cells)


def _inputs(value: Any, signature: Signature, max_rows: int, cells: Cells | None) -> Batch:
    return batch_of_json(value, signature, max_rows, "inputs", cells)


def _instances(value: Any, signature: Signature, max_rows: int, cells: Cells | None) -> Batch:
    """Return the batch of one item a row: an array, or an object name -> array of that row."""
    if type(value) is not list or not value:
        raise RequestError(400, f"instances must be a list of at least one, got {shown(value)}.")
    if type(value[0]) is not dict:
        return batch_of_json(value, signature, max_rows, "instances", cells)
    known = [spec.name for spec in signature.inputs]
    for index, item in enumerate(value):
        if type(item) is not dict or item.keys() != set(known):
            given = item if type(item) is dict else [item]
            raise unknown_names(given, known, f"instances[{index}]")
    columns = {name: [item[name] for item in value] for name in known}
    return batch_of_json(columns, signature, max_rows, "instances", cells)


FORMATS: dict[str, Callable[[Any, Signature, int, Cells | None], Batch]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}


def predictions(response: Response) -> Any:
    """Return the only output, one entry a row, or name -> such a list where there are several."""
    if len(response.outputs) == 1:
        return json_value(next(iter(response.outputs.values())))
    return {name: json_value(array) for name, array in response.outputs.items()}
