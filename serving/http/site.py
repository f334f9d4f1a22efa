"""What handlers share: the engine, its limits, the counters, the events, the way to a reload."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from scanflow_serve.policies.errors import RequestError
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.inspection import Unread
from scanflow_serve.runtime.requests import Prefer, Request, Response
from scanflow_serve.runtime.tensors import Tensors
from scanflow_serve.serving.checks import open_checks
from scanflow_serve.serving.http.cells import Cells
from scanflow_serve.serving.http.exchange import Exchange, Headers, Reply
from scanflow_serve.serving.http.guard import Guard, Place, path_in
from scanflow_serve.serving.http.images import ImageReader
from scanflow_serve.serving.integrity import integrity_checks
from scanflow_serve.serving.metrics import Metrics

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine, Served
    from scanflow_serve.serving.http.events import EventStreams

# Ids in the reply's header: 64 of 27 bytes are 1.7 KB, well under the 8 KB that clients read.
MOST_IDS = 64
INPUTS = path_in("inputs")


@dataclass(frozen=True, slots=True)
class Site:
    """One loaded policy, as HTTP sees it.

    Attributes:
        streams: Outlive the policy, as do *metrics*.
        reload: Serves another policy, given its text, and returns what it became.
        images: Reads image bodies; None if the policy doesn't say how.
        guard: Inspects inputs before inference; None if the policy has no integrity check.
        checks: Watch the policy's run beside the requests; None if the policy has none.
    """

    engine: Engine
    metrics: Metrics
    streams: EventStreams
    reload: Reload
    images: ImageReader | None = None
    guard: Guard | None = None
    checks: Host | None = None

    @property
    def max_rows(self) -> int:
        """Return the most rows that one request may have."""
        return self.engine.policy_file.policy.serve.limits.max_rows

    def main(self) -> Served:
        """Return what answers to the policy's name."""
        return self.engine.served(self.engine.policy_file.policy.name)

    def named(self, params: Mapping[str, str]) -> Served:
        """Return what a path names.

        Raises:
            RequestError: 404, unknown, not loaded here, or another version.
        """
        return self.engine.served(params["model"], params.get("version"))

    def cells(self, served: Served) -> Cells | None:
        """Return what takes cells that are no values; None where they are refused at once."""
        return None if self.guard is None else self.guard.cells(served.name)

    def turn_away(
        self, served: Served, exchange: Exchange, deadline_ms: float | None, prefer: Prefer | None
    ) -> None:
        """Do nothing if a request may be answered in time; called before its body is parsed.

        Raises:
            RequestError: 503 queue full, 504 deadline can't be met, even by a single row.
        """
        try:
            self.engine.turn_away(served, exchange.client, deadline_ms, prefer)
        except RequestError as error:
            self.metrics.failure(served.name, error, 0.0)
            raise

    async def infer(
        self,
        served: Served,
        inputs: Tensors,
        rows: int,
        *,
        client: str,
        deadline_ms: float | None,
        prefer: Prefer | None,
        priority: int = 0,
        unread: Sequence[Unread] = (),
        place: Place = INPUTS,
        session: str = "",
    ) -> Response:
        """Return the engine's answer, counted.

        Args:
            client: Who asks; clients share the queue fairly.
            priority: Lower goes first.
            unread: Cells of the body that are no values; *inputs* has placeholders there.
            place: Where in the body a finding's value stands.
            session: What the client says these rows belong to; checks of sequences go by it.

        Raises:
            RequestError: 422 an integrity check refuses the inputs, 503 queue full, 504 deadline
                can't be met.
            ScanflowError: The inference failed.
        """
        started = time.perf_counter()
        found, given = None, inputs
        if self.guard is not None:
            found = self.guard.inspect(served.name, inputs, rows, unread, place)
            inputs = found.inputs or inputs
        try:
            response = await self.engine.infer(
                Request(served.name, inputs, rows, deadline_ms, prefer, client, priority)
            )
        except Exception as error:
            self.metrics.failure(served.name, error, time.perf_counter() - started)
            raise
        if self.guard is not None and found is not None:
            response.findings = found.findings
            self.guard.show(given, found.findings, response.prediction_ids, response.variant)
        self.metrics.inference(served.name, rows, response, time.perf_counter() - started)
        if self.checks is not None and served.kind != "model":
            self._show(self.checks, response, inputs, session)
        return response

    @staticmethod
    def _show(checks: Host, response: Response, inputs: Tensors, session: str) -> None:
        """Hand an answered request to the checks, and tell in it what they know by now."""
        checks.tap.put(
            response.prediction_ids,
            inputs,
            response.outputs,
            response.output,
            response.kind,
            response.variant,
            session,
        )
        response.check_states = checks.states()
        response.p_values = checks.p_values(response, inputs, session)


def open_site(
    engine: Engine,
    metrics: Metrics,
    streams: EventStreams,
    reload: Reload,
    state: Path | None = None,
) -> Site:
    """Return the site of a loaded engine; its rules see its checks.

    Args:
        state: Where what checks learn is kept; None: nowhere.

    Raises:
        UsageError: The policy's ``serve.image`` does not give what the model takes.
        ScanflowError: As `open_guard` and `open_checks`.
    """
    guard = open_guard(engine, state)
    checks = open_checks(engine, state, guard, streams.log.add)
    if checks is not None:
        engine.watched_by(checks.facts)
    return Site(engine, metrics, streams, reload, image_reader(engine), guard, checks)


def open_guard(engine: Engine, state: Path | None) -> Guard | None:
    """Return what inspects inputs, None if the policy has no integrity check.

    Raises:
        ScanflowError: As `integrity_checks`.
    """
    checks = integrity_checks(engine, state)
    if not checks:
        return None
    wanted = engine.served(engine.policy_file.policy.name).signature.inputs
    served = (engine.served(name) for name in engine.names())
    return Guard(checks, frozenset(each.name for each in served if each.signature.inputs == wanted))


def image_reader(engine: Engine) -> ImageReader | None:
    """Return what reads image bodies, None if the policy doesn't say how.

    Raises:
        UsageError: The policy's ``serve.image`` does not give what the model takes.
    """
    policy = engine.policy_file.policy
    image = policy.serve.image
    return None if image is None else ImageReader(image, engine.served(policy.name).signature)


# The text of a policy -> what `PUT /policy` answers with; see `Application.reload`.
Reload: TypeAlias = Callable[[str], Awaitable[dict[str, Any]]]
Handler: TypeAlias = Callable[[Site, Exchange], Awaitable[Reply]]


def answer_headers(response: Response) -> Headers:
    """Return ``Scanflow-Prediction-Id`` and ``Scanflow-Variant``.

    The first lists up to `MOST_IDS` ids, separated by commas; a last item ``+N`` counts the
    others, which the body has.
    """
    ids = response.prediction_ids
    text = ",".join(ids[:MOST_IDS])
    if len(ids) > MOST_IDS:
        text += f",+{len(ids) - MOST_IDS}"
    return [
        (b"scanflow-prediction-id", text.encode()),
        (b"scanflow-variant", response.variant.encode()),
    ]
