"""The OpenAPI 3.1 description of every route, with the loaded models' own names and shapes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from scanflow_serve.policies.schema import Auth
from scanflow_serve.serving.http import openapi_bodies as bodies
from scanflow_serve.serving.http import openapi_schemas as schemas
from scanflow_serve.serving.http.compression import ACCEPTED as ENCODINGS
from scanflow_serve.serving.http.openapi_checks import check_operations
from scanflow_serve.serving.http.site import Site
from scanflow_serve.serving.http.ui import ASSETS

Json = dict[str, Any]

REASONS = {
    400: "Malformed: the text names the place, what was got and what would be right.",
    401: "No key, or an unknown one.",
    403: "The key lacks the scope.",
    404: "Unknown, or not loaded on this host.",
    405: "Another method is needed; see Allow.",
    409: "Not as things stand; the text says why.",
    413: "Too large: see serve.limits in the policy.",
    415: "Media type or compression that is not taken here.",
    422: "The image does not fit the policy's serve.image, or the policy can't be served here.",
    429: "Over serve.limits.rate_rps; see Retry-After.",
    500: "The server failed; the id is in its log.",
    503: "Starting, stopping, or the queue is full; see Retry-After.",
    504: "The deadline can't be met; refused before inference. See Retry-After.",
}
LOADED = (500, 503)
READING = (413, 415, *LOADED)
INFERENCE = (400, 429, 504, *READING)


def document(site: Site) -> Json:
    """Return the OpenAPI document of this server."""
    oip = _Oip(site)
    paths = {
        "/predict": {"post": _predict(site)},
        "/invocations": {"post": _invocations(site)},
        **oip.paths(),
        **_introspection(),
        **_operations(site),
        **_checks(site),
    }
    paths["/policy"]["put"] = _put_policy(site)
    if isinstance(site.engine.policy_file.policy.serve.auth, Auth):
        for path, methods in paths.items():
            for operation in methods.values():
                _secure(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "scanflow-serve",
            "version": version("scanflow-serve"),
            "description": "Predictions by the variant that fits this host best."
            f" Bodies may be compressed ({ENCODINGS}). NaN and infinities in JSON replies"
            " are null.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas.COMPONENTS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


OPEN = frozenset(
    {
        *("/livez", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready"),
        *("/ping", "/version", "/docs", "/openapi.json", "/", "/ui", "/ui/{asset}"),
    }
)


def _secure(path: str, operation: Json) -> None:
    if path not in OPEN:
        operation["security"] = [{"key": []}]
        operation["responses"].update(_errors(path, (401, 403)))


def _errors(path: str, codes: tuple[int, ...]) -> Json:
    kind, schema = (
        ("application/json", "OipError")
        if path.startswith("/v2")
        else ("application/problem+json", "Problem")
    )
    content = {kind: {"schema": schemas.ref(schema)}}
    return {str(code): {"description": REASONS[code], "content": content} for code in codes}


def operation(
    path: str,
    summary: str,
    content: Json,
    codes: tuple[int, ...] = (),
    parameters: tuple[Json, ...] = (),
    body: Json | None = None,
) -> Json:
    """Return an operation: what it answers with 200, and the errors it may answer with."""
    result: Json = {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": content},
            **_errors(path, tuple(sorted({*codes}))),
        },
    }
    if parameters:
        result["parameters"] = list(parameters)
    if body is not None:
        result["requestBody"] = body
    return result


def _checks(site: Site) -> Json:
    return check_operations(site, operation)


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _predict(site: Site) -> Json:
    signature = site.main().signature
    contents = _json(bodies.predict_body(signature, site.max_rows))
    contents["text/csv"] = {"schema": bodies.csv_body(signature, header=False)}
    contents["application/x-npy"] = {"schema": schemas.BINARY}
    if site.images is not None:
        contents["image/png"] = {"schema": schemas.BINARY}
        contents["image/jpeg"] = {"schema": schemas.BINARY}
    return operation(
        "/predict",
        f"Predict with {site.main().name}",
        _json(schemas.ref("Prediction")),
        (422, *INFERENCE),
        schemas.REQUEST_HEADERS,
        {"required": True, "content": contents},
    )


def _invocations(site: Site) -> Json:
    signature = site.main().signature
    contents = _json(bodies.invocations_body(signature, site.max_rows))
    contents["text/csv"] = {"schema": bodies.csv_body(signature, header=True)}
    return operation(
        "/invocations",
        "Predict, MLflow's scoring protocol",
        _json(schemas.ref("Invocation")),
        INFERENCE,
        schemas.REQUEST_HEADERS,
        {"required": True, "content": contents},
    )


class _Oip:
    """The operations below /v2."""

    def __init__(self, site: Site) -> None:
        names = site.engine.names()
        main = site.main()
        # One schema can describe the body of several names only where they take the same inputs.
        alike = [
            n for n in names if site.engine.served(n).signature.inputs == main.signature.inputs
        ]
        same = [n for n in alike if site.engine.served(n).version == main.version]
        versions = sorted({main.version})
        self.models = list(site.engine.policy_file.policy.models)
        self.model = (schemas.path_parameter("model", list(names)),)
        self.pinned = (
            schemas.path_parameter("model", same),
            schemas.path_parameter("version", versions),
        )
        headers = (*schemas.REQUEST_HEADERS, schemas.BINARY_HEADER)
        self.inferring = (schemas.path_parameter("model", alike), *headers)
        self.inferring_pinned = (*self.pinned, *headers)
        content = _json(bodies.infer_body(main.signature, site.max_rows))
        content["application/json"]["example"] = bodies.infer_example(main.signature)
        self.body = {"required": True, "content": content}

    def paths(self) -> Json:
        """Return path -> method -> operation."""
        found: Json = {}
        for path, summary, schema, codes in (
            ("/v2", "Server metadata", "ServerMetadata", ()),
            ("/v2/health/live", "Whether the process answers", "Health", ()),
            ("/v2/models/stats", "Statistics of all models", "Statistics", LOADED),
        ):
            found[path] = {"get": operation(path, summary, _json(schemas.ref(schema)), codes)}
        ready = operation(
            "/v2/health/ready", "Whether predictions are answered", _json(schemas.ref("Health"))
        )
        ready["responses"]["503"] = ready["responses"]["200"] | {"description": REASONS[503]}
        found["/v2/health/ready"] = {"get": ready}
        for at, model, inferring in (
            ("/v2/models/{model}", self.model, self.inferring),
            ("/v2/models/{model}/versions/{version}", self.pinned, self.inferring_pinned),
        ):
            found |= self._model(at, model, inferring)
        index = "/v2/repository/index"
        found[index] = {
            "post": operation(
                index,
                "All names of the policy, and which are loaded",
                _json({"type": "array", "items": schemas.ref("IndexEntry")}),
                (400, *READING),
                (),
                {"required": False, "content": _json(schemas.INDEX_BODY)},
            )
        }
        return found | self._repository()

    def _repository(self) -> Json:
        known = (schemas.path_parameter("model", self.models),)
        found: Json = {}
        for verb, summary, body in (
            ("load", "Load a model of the policy", schemas.LOAD_BODY),
            ("unload", "Unload a model once its requests are answered", schemas.UNLOAD_BODY),
        ):
            path = f"/v2/repository/models/{{model}}/{verb}"
            found[path] = {
                "post": operation(
                    path,
                    summary,
                    _json({"type": "object"}),
                    (400, 404, 409, *READING),
                    known,
                    {"required": False, "content": _json(body)},
                )
            }
        return found

    def _model(self, at: str, model: tuple[Json, ...], inferring: tuple[Json, ...]) -> Json:
        found: Json = {}
        for path, summary, schema in (
            (at, "Model metadata", "ModelMetadata"),
            (f"{at}/ready", "Whether the model answers", "ModelReady"),
            (f"{at}/stats", "The model's statistics", "Statistics"),
        ):
            content = _json(schemas.ref(schema))
            found[path] = {"get": operation(path, summary, content, (404, *LOADED), model)}
        infer = f"{at}/infer"
        content = _json(schemas.ref("InferReply")) | {
            "application/octet-stream": {"schema": schemas.BINARY}
        }
        found[infer] = {
            "post": operation(
                infer,
                "Inference: JSON, or binary tensors behind Inference-Header-Content-Length",
                content,
                (404, *INFERENCE),
                inferring,
                self.body,
            )
        }
        return found


SINCE: Json = {
    "name": "after",
    "in": "query",
    "description": "The `at` of a point, in s: only later ones are told.",
    "schema": {"type": "number"},
}


def _introspection() -> Json:
    text = {"text/plain": {"schema": {"type": "string"}}}
    found: Json = {}
    for path, summary, content, codes in (
        ("/host", "The host's profile", _json({"type": "object"}), LOADED),
        ("/plan", "What runs here, what else could, and why", _json(schemas.ref("Plan")), LOADED),
        ("/policy", "The policy file as written", _json(schemas.ref("PolicyText")), LOADED),
        ("/metrics", "Prometheus metrics", text, LOADED),
        ("/livez", "Whether the process answers", _json(schemas.ref("Live")), ()),
        ("/readyz", "Whether predictions are answered", _json(schemas.ref("Ready")), (503,)),
        ("/ping", "Whether predictions are answered (MLflow)", text, (503,)),
        ("/version", "The server's version (MLflow)", text, ()),
        (
            "/docs",
            "This description, for people",
            {"text/html": {"schema": {"type": "string"}}},
            LOADED,
        ),
        ("/openapi.json", "This description", _json({"type": "object"}), LOADED),
    ):
        found[path] = {"get": operation(path, summary, content, codes)}
    summary, traffic = "Traffic and latency over the last hour", _json(schemas.ref("Traffic"))
    found["/stats"] = {"get": operation("/stats", summary, traffic, (400, *LOADED), (SINCE,))}
    page = {"text/html": {"schema": {"type": "string"}}}
    found["/ui"] = {"get": operation("/ui", "The dashboard", page, LOADED)}
    types = sorted({each.content_type.decode().partition(";")[0] for each in ASSETS.values()})
    parts = {each: {"schema": {"type": "string"}} for each in types}
    named = (schemas.path_parameter("asset", sorted(ASSETS)),)
    found["/ui/{asset}"] = {
        "get": operation(
            "/ui/{asset}", "What the dashboard is made of", parts, (404, *LOADED), named
        )
    }
    found["/"] = {
        "get": {"summary": "Go to /docs", "responses": {"307": {"description": "See Location."}}}
    }
    return found


def _operations(site: Site) -> Json:
    found: Json = {}
    pinned = operation(
        "/plan/pin",
        "Answer by one variant or model until it is unpinned",
        _json(schemas.ref("Pin")),
        (400, 404, *READING),
        (),
        {"required": True, "content": _json(schemas.pin_body(_pinnable(site)))},
    )
    found["/plan/pin"] = {"post": pinned}
    listed = _json(schemas.ref("Events")) | {"text/event-stream": {"schema": {"type": "string"}}}
    found["/events"] = {
        "get": operation(
            "/events",
            "What happened, oldest first; a stream with Accept: text/event-stream",
            listed,
            (400, *LOADED),
            schemas.EVENT_PARAMETERS,
        )
    }
    return found


def _pinnable(site: Site) -> list[str]:
    """Return what may be pinned for sure: a model that answers."""
    names = site.engine.names()
    return [name for name in names if site.engine.served(name).kind == "model"]


def _put_policy(site: Site) -> Json:
    text = site.engine.policy_file.text
    body = _json(schemas.POLICY_BODY) | {
        "application/yaml": {"schema": {"type": "string"}, "example": text}
    }
    return operation(
        "/policy",
        "Serve another policy, once it is prepared; on any failure the old one serves on",
        _json(schemas.ref("Summary")),
        (400, 403, 409, 422, *READING),
        (),
        {"required": True, "content": body},
    )
