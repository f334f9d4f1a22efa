"""The table of routes, and the match of a path against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from scanflow_serve.serving.http import checks
from scanflow_serve.serving.http import introspection as see
from scanflow_serve.serving.http import oip_models as oip
from scanflow_serve.serving.http import operations as operate
from scanflow_serve.serving.http.docs import docs_page, openapi_json
from scanflow_serve.serving.http.events import events
from scanflow_serve.serving.http.exchange import Reply
from scanflow_serve.serving.http.invocations import invocations
from scanflow_serve.serving.http.oip_infer import infer
from scanflow_serve.serving.http.predict import predict
from scanflow_serve.serving.http.site import Handler
from scanflow_serve.serving.http.ui import asset, page

Probe: TypeAlias = Callable[[bool], Reply]
Access: TypeAlias = Literal["open", "any", "predict", "feedback", "admin"]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        template: Path with ``{variables}``; also the label in metrics.
        access: Scope of the key that is needed where the policy asks for keys.
        answer: What answers once an engine is loaded.
        probe: What answers always, given whether the server is ready.
        limited: Counts against ``serve.limits.rate_rps``.
    """

    method: Literal["GET", "POST", "PUT"]
    template: str
    access: Access
    answer: Handler | None = None
    probe: Probe | None = None
    limited: bool = False


ROUTES: tuple[Route, ...] = (
    Route("POST", "/predict", "predict", predict, limited=True),
    Route("POST", "/invocations", "predict", invocations, limited=True),
    Route("POST", "/v2/models/{model}/infer", "predict", infer, limited=True),
    Route("POST", "/v2/models/{model}/versions/{version}/infer", "predict", infer, limited=True),
    Route("GET", "/v2", "open", probe=see.oip_server),
    Route("GET", "/v2/health/live", "open", probe=see.oip_live),
    Route("GET", "/v2/health/ready", "open", probe=see.oip_ready),
    Route("GET", "/v2/models/stats", "predict", oip.all_statistics),
    Route("GET", "/v2/models/{model}", "predict", oip.model_metadata),
    Route("GET", "/v2/models/{model}/ready", "predict", oip.model_ready),
    Route("GET", "/v2/models/{model}/stats", "predict", oip.model_statistics),
    Route("GET", "/v2/models/{model}/versions/{version}", "predict", oip.model_metadata),
    Route("GET", "/v2/models/{model}/versions/{version}/ready", "predict", oip.model_ready),
    Route("GET", "/v2/models/{model}/versions/{version}/stats", "predict", oip.model_statistics),
    Route("POST", "/v2/repository/index", "predict", oip.repository_index),
    Route("POST", "/v2/repository/models/{model}/load", "admin", operate.load),
    Route("POST", "/v2/repository/models/{model}/unload", "admin", operate.unload),
    Route("GET", "/host", "any", see.host),
    Route("GET", "/plan", "any", see.plan),
    Route("POST", "/plan/pin", "admin", operate.pin),
    Route("GET", "/policy", "admin", see.policy),
    Route("PUT", "/policy", "admin", operate.put_policy),
    Route("GET", "/events", "any", events),
    Route("GET", "/checks", "any", checks.checks),
    Route("GET", "/checks/{check}", "any", checks.check),
    Route("GET", "/checks/{check}/history", "any", checks.history),
    Route("GET", "/checks/{check}/rows", "any", checks.rows),
    Route("POST", "/checks/{check}/ack", "admin", checks.acknowledge),
    Route("POST", "/checks/{check}/rebase", "admin", checks.rebase),
    Route("GET", "/metrics", "any", see.metrics),
    Route("GET", "/stats", "any", see.stats),
    Route("GET", "/ping", "open", probe=see.ping),
    Route("GET", "/version", "open", probe=see.mlflow_version),
    Route("GET", "/livez", "open", probe=see.live),
    Route("GET", "/readyz", "open", probe=see.readiness),
    Route("GET", "/ui", "open", page),
    Route("GET", "/ui/{asset}", "open", asset),
    Route("GET", "/docs", "open", docs_page),
    Route("GET", "/openapi.json", "open", openapi_json),
    Route("GET", "/", "open", probe=see.home),
)

# Templates of what answers inferences.
INFERENCE = frozenset(route.template for route in ROUTES if route.limited)

Methods: TypeAlias = dict[str, Route]
NOTHING: Mapping[str, str] = {}


class Router:
    """Finds what answers a path: fixed paths in a table, templates by their number of segments."""

    def __init__(self, routes: tuple[Route, ...] = ROUTES) -> None:
        self._fixed: dict[str, Methods] = {}
        self._templates: dict[int, list[tuple[list[str], Methods]]] = {}
        templates: dict[str, Methods] = {}
        for route in routes:
            templates.setdefault(route.template, {})[route.method] = route
        for template, methods in templates.items():
            if "{" not in template:
                self._fixed[template] = methods
            else:
                segments = template.split("/")
                self._templates.setdefault(len(segments), []).append((segments, methods))

    def match(self, path: str) -> tuple[Methods | None, Mapping[str, str]]:
        """Return the path's routes by method, None if it is unknown, and its variables."""
        methods = self._fixed.get(path)
        if methods is not None:
            return methods, NOTHING
        given = path.split("/")
        for segments, methods in self._templates.get(len(given), ()):
            params: dict[str, str] = {}
            for want, got in zip(segments, given, strict=True):
                if want[:1] == "{" and got:
                    params[want[1:-1]] = got
                elif want != got:
                    break
            else:
                return methods, params
        return None, NOTHING
