"""What handlers share: the engine, its limits, the counters, the events, the way to a reload."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from scanflow_serve.runtime.requests import Prefer, Request, Response
from scanflow_serve.runtime.tensors import Tensors
from scanflow_serve.serving.http.exchange import Exchange, Headers, Reply
from scanflow_serve.serving.http.images import ImageReader
from scanflow_serve.serving.metrics import Metrics

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine, Served
    from scanflow_serve.serving.http.events import EventStreams

# Ids in the reply's header: 64 of 27 bytes are 1.7 KB, well under the 8 KB that clients read.
MOST_IDS = 64


@dataclass(frozen=True, slots=True)
class Site:
    """One loaded policy, as HTTP sees it.

    Attributes:
        streams: Outlive the policy, as do *metrics*.
        reload: Serves another policy, given its text, and returns what it became.
        images: Reads image bodies; None if the policy doesn't say how.
    """

    engine: Engine
    metrics: Metrics
    streams: EventStreams
    reload: Reload
    images: ImageReader | None = None

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
    ) -> Response:
        """Return the engine's answer, counted.

        Args:
            client: Who asks; clients share the queue fairly.
            priority: Lower goes first.

        Raises:
            RequestError: 503 queue full, 504 deadline can't be met.
            ScanflowError: The inference failed.
        """
        started = time.perf_counter()
        try:
            response = await self.engine.infer(
                Request(served.name, inputs, rows, deadline_ms, prefer, client, priority)
            )
        except Exception as error:
            self.metrics.failure(served.name, error, time.perf_counter() - started)
            raise
        self.metrics.inference(served.name, rows, response, time.perf_counter() - started)
        return response


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
