"""``POST /v2/models/{model}[/versions/{version}]/infer``: reading the request."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.inspection import Finding
from scanflow_serve.runtime.tensors import Array, Signature, Tensors, TensorSpec
from scanflow_serve.serving.http import oip_tensors
from scanflow_serve.serving.http.cells import Cells
from scanflow_serve.serving.http.exchange import Exchange, Reply, parse_json, shown
from scanflow_serve.serving.http.guard import path_in
from scanflow_serve.serving.http.inputs import bound_rows, deadline_ms, prefer, session
from scanflow_serve.serving.http.oip_outputs import Wanted, infer_reply
from scanflow_serve.serving.http.site import Site

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Served

LONGEST_US = 2**53  # 285 years; larger integers are not exact in JSON
DEFAULT_PRIORITY = 2
LOWEST_PRIORITY = 2**32 - 1
LENGTH = b"inference-header-content-length"
DECISIVE = (b'"timeout"', b'"priority"', b"\\u")


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asked.

    Attributes:
        id: The client's own, echoed.
        wanted: Outputs in the order asked for; all of them where none is named.
        deadline_ms: From ``parameters.timeout``, which is in µs.
        priority: Of ours, where lower goes first; from ``parameters.priority``, see `_priority`.
        order: Names of the inputs as the body has them.
    """

    inputs: Tensors
    rows: int
    wanted: tuple[Wanted, ...]
    id: str | None = None
    deadline_ms: float | None = None
    priority: int = 0
    order: tuple[str, ...] = ()

    def place(self, finding: Finding) -> str:
        """Return the JSON path of a finding's value."""
        if finding.input not in self.order:
            return path_in("body")(finding)
        return path_in(f"inputs[{self.order.index(finding.input)}].data")(finding)


async def infer(site: Site, exchange: Exchange) -> Reply:
    """Answer an inference request, JSON or binary."""
    served = site.named(exchange.params)
    cells = site.cells(served)
    body, length = await exchange.body(), exchange.header(LENGTH)
    budget_ms, preferred = deadline_ms(exchange), prefer(exchange)
    if site.engine.queued and not says_more(body, length):
        site.turn_away(served, exchange, budget_ms, preferred)
    asked = parse(body, length, served, site.max_rows, cells)
    budgets = [ms for ms in (budget_ms, asked.deadline_ms) if ms is not None]
    response = await site.infer(
        served,
        asked.inputs,
        asked.rows,
        client=exchange.client,
        deadline_ms=min(budgets, default=None),
        prefer=preferred,
        priority=asked.priority,
        unread=() if cells is None else cells.unread,
        place=asked.place,
        session=session(exchange),
    )
    return infer_reply(served, asked.id, asked.wanted, response)


def says_more(body: bytes, length: str | None) -> bool:
    """Return whether *body* may say what decides whether there is time for it.

    A deadline or a priority, in words or in JSON's escapes.

    Args:
        length: As for `parse`; what is no length counts as none.
    """
    end = int(length) if length and length.isdecimal() and len(length) < 19 else len(body)
    return any(body.find(word, 0, end) >= 0 for word in DECISIVE)


def parse(
    body: bytes, length: str | None, served: Served, max_rows: int, cells: Cells | None = None
) -> InferRequest:
    """Return the checked request.

    Args:
        length: ``Inference-Header-Content-Length``: bytes of JSON before the binary data, 0 for
            a raw request; None where all of the body is JSON.
        cells: Takes what is no value of its dtype; without it that is refused.

    Raises:
        RequestError: 400 with the JSON path at fault; 413, too many rows.
    """
    signature = served.signature
    if length is None:
        return _parse_document(parse_json(body), memoryview(b""), served, max_rows, cells)
    size = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else -1
    if not 0 <= size <= len(body):
        raise RequestError(
            400,
            f"Inference-Header-Content-Length must be 0 to {len(body)}, the body's bytes,"
            f" got {shown(length)}.",
        )
    if size == 0:
        return _raw(memoryview(body), signature, max_rows)
    return _parse_document(
        parse_json(body[:size]), memoryview(body)[size:], served, max_rows, cells
    )


def _raw(data: memoryview, signature: Signature, max_rows: int) -> InferRequest:
    """Return the request whose body is nothing but the only input's bytes."""
    if len(signature.inputs) != 1:
        raise RequestError(
            400,
            f"A raw binary request needs a model with one input, this has {len(signature.inputs)}."
            " Send a JSON header that names them.",
        )
    spec = signature.inputs[0]
    wanted = tuple(Wanted(output.name, binary=True) for output in signature.outputs)
    if spec.dtype == "str":
        if not data:
            raise RequestError(400, "body must be one BYTES element or more, got nothing.")
        texts = oip_tensors.from_binary(data, spec, (1, *([1] * (len(spec.shape) - 1))), "body")
        return InferRequest({spec.name: texts}, 1, wanted)
    if None in spec.shape[1:]:
        raise RequestError(
            400, f"A raw binary request needs fixed dimensions, input {spec.name!r} has free ones."
        )
    row = math.prod(n or 1 for n in spec.shape[1:]) * spec.numpy_dtype.itemsize
    if not data or len(data) % row:
        raise RequestError(
            400, f"body must be a multiple of {row} bytes, one row, got {len(data)} bytes."
        )
    rows = len(data) // row
    bound_rows(rows, max_rows, "body")
    shape = (rows, *(n or 1 for n in spec.shape[1:]))
    return InferRequest(
        {spec.name: oip_tensors.from_binary(data, spec, shape, "body")}, rows, wanted
    )


def _parse_document(
    document: Any, binary: memoryview, served: Served, max_rows: int, cells: Cells | None
) -> InferRequest:
    if type(document) is not dict:
        raise RequestError(400, f"body must be a JSON object, got {shown(document)}.")
    identity = document.get("id")
    if identity is not None and type(identity) is not str:
        raise RequestError(400, f"id must be a string, got {shown(identity)}.")
    parameters = parameters_of(document, "")
    inputs, rows = _inputs(document.get("inputs"), binary, served.signature, max_rows, cells)
    binary_default = _flag(parameters, "binary_data_output", "")
    return InferRequest(
        inputs,
        rows,
        _wanted(document.get("outputs"), served, binary_default),
        identity,
        _timeout_ms(parameters),
        _priority(parameters),
        tuple(inputs),
    )


def parameters_of(holder: dict[str, Any], where: str) -> dict[str, Any]:
    """Return an object's ``parameters``, empty where it has none.

    Raises:
        RequestError: 400, they are not an object.
    """
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise RequestError(400, f"{where}parameters must be an object, got {shown(parameters)}.")
    return parameters


def _flag(parameters: dict[str, Any], key: str, where: str, default: bool = False) -> bool:
    value = parameters.get(key, default)
    if type(value) is not bool:
        raise RequestError(
            400, f"{where}parameters.{key} must be true or false, got {shown(value)}."
        )
    return value


def _timeout_ms(parameters: dict[str, Any]) -> float | None:
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) not in (int, float) or not 0 <= timeout <= LONGEST_US:
        raise RequestError(
            400, f"parameters.timeout must be 0 to {LONGEST_US} µs, got {shown(timeout)}."
        )
    return float(timeout) / 1000 if timeout else None  # 0 means none, as in Triton


def _priority(parameters: dict[str, Any]) -> int:
    """Return the priority that Triton's ``parameters.priority`` stands for.

    There, 1 is the highest and 0 stands for the default, which the server has to place: here it
    is the second, so that 1 goes before those who name none, and 3 and more after them.
    """
    priority = parameters.get("priority", 0)
    if priority is None or priority == 0:
        priority = DEFAULT_PRIORITY
    if type(priority) is not int or not 0 < priority <= LOWEST_PRIORITY:
        raise RequestError(
            400,
            f"parameters.priority must be 0 (default) or 1 (first) to {LOWEST_PRIORITY}, got"
            f" {shown(priority)}.",
        )
    return priority - DEFAULT_PRIORITY


def _inputs(
    given: Any, binary: memoryview, signature: Signature, max_rows: int, cells: Cells | None
) -> tuple[Tensors, int]:
    if type(given) is not list:
        raise RequestError(400, f"inputs must be a list of tensors, got {shown(given)}.")
    specs = {spec.name: spec for spec in signature.inputs}
    tensors: Tensors = {}
    at = 0
    for index, item in enumerate(given):
        where = f"inputs[{index}]"
        if type(item) is not dict:
            raise RequestError(400, f"{where} must be an object, got {shown(item)}.")
        spec = _spec(item.get("name"), specs, tensors, where)
        tensors[spec.name], at = _tensor(item, spec, binary, at, where, cells)
    if len(tensors) != len(specs):
        missing = [name for name in specs if name not in tensors]
        raise RequestError(400, f"inputs must have {[*specs]}, all of them, but lack {missing}.")
    if at != len(binary):
        raise RequestError(
            400, f"body must end with the last binary tensor, got {len(binary) - at} bytes more."
        )
    rows = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(rows.values())) != 1:
        raise RequestError(400, f"inputs must have one batch size, got {rows}.")
    count = next(iter(rows.values()))
    bound_rows(count, max_rows, "inputs")
    return tensors, count


def _spec(name: Any, specs: dict[str, TensorSpec], seen: Tensors, where: str) -> TensorSpec:
    spec = specs.get(name) if type(name) is str else None
    if spec is None:
        raise RequestError(400, f"{where}.name must be one of {[*specs]}, got {shown(name)}.")
    if name in seen:
        raise RequestError(400, f"{where}.name must be given once, got {name!r} again.")
    return spec


def _tensor(
    item: dict[str, Any],
    spec: TensorSpec,
    binary: memoryview,
    at: int,
    where: str,
    cells: Cells | None,
) -> tuple[Array, int]:
    """Return one input, and where the next one's binary data begins."""
    wanted = oip_tensors.datatype(spec)
    if item.get("datatype") != wanted:
        raise RequestError(
            400,
            f"{where}.datatype must be {wanted}, as input {spec.name!r} has it,"
            f" got {shown(item.get('datatype'))}.",
        )
    shape = oip_tensors.checked_shape(item.get("shape"), spec, where)
    parameters = parameters_of(item, f"{where}.")
    if "shared_memory_region" in parameters:
        raise RequestError(
            400, f"{where}: shared memory is not supported. Send data, or binary_data_size."
        )
    size = parameters.get("binary_data_size")
    if size is None:
        return oip_tensors.from_json(item.get("data"), spec, shape, where, cells), at
    if type(size) is not int or not 0 <= size <= len(binary) - at:
        raise RequestError(
            400,
            f"{where}.parameters.binary_data_size must be 0 to {len(binary) - at}, the bytes that"
            f" are left after the JSON, got {shown(size)}.",
        )
    if "data" in item:
        raise RequestError(400, f"{where} must have data or binary_data_size, got both.")
    return oip_tensors.from_binary(binary[at : at + size], spec, shape, where), at + size


def _wanted(given: Any, served: Served, binary_default: bool) -> tuple[Wanted, ...]:
    names = [spec.name for spec in served.signature.outputs]
    if given is None or given == []:
        return tuple(Wanted(name, binary_default) for name in names)
    if type(given) is not list:
        raise RequestError(400, f"outputs must be a list, got {shown(given)}.")
    wanted: dict[str, Wanted] = {}
    for index, item in enumerate(given):
        where = f"outputs[{index}]"
        if type(item) is not dict:
            raise RequestError(400, f"{where} must be an object, got {shown(item)}.")
        name = item.get("name")
        if type(name) is not str or name not in names:
            raise RequestError(400, f"{where}.name must be one of {names}, got {shown(name)}.")
        if name in wanted:
            raise RequestError(400, f"{where}.name must be given once, got {name!r} again.")
        parameters = parameters_of(item, f"{where}.")
        binary = _flag(parameters, "binary_data", f"{where}.", binary_default)
        wanted[name] = Wanted(name, binary, _classes(parameters, where))
    return tuple(wanted.values())


def _classes(parameters: dict[str, Any], where: str) -> int:
    value = parameters.get("classification", 0)
    if type(value) is not int or value < 0:
        raise RequestError(
            400, f"{where}.parameters.classification must be an integer >= 0, got {shown(value)}."
        )
    return value
