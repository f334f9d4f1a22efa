"""What checks cost inside one process: the tap, integrity, state, checkpoints."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from check_policies import rows_of

from scanflow_serve.policies.loader import load_policy
from scanflow_serve.runtime.checks.batches import batches
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.isolation import kept_bytes
from scanflow_serve.runtime.checks.tap import Tapped
from scanflow_serve.runtime.engine import Engine
from scanflow_serve.runtime.events import EventLog
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.tensors import Array
from scanflow_serve.serving import composition
from scanflow_serve.serving.http.events import EventStreams
from scanflow_serve.serving.http.routes import INFERENCE
from scanflow_serve.serving.http.site import Site, open_site
from scanflow_serve.serving.metrics import Metrics

INPUT = "pixels"
CHUNK = 2048  # rows that the checks' thread takes at once when many wait
WARM = 0.1  # of the rows, after which the state is weighed first: bounded lists are full by then
DRAINED = 256  # requests after which the tap is emptied, outside of the clock


@dataclass(frozen=True, slots=True)
class Spread:
    """Of many calls, in us."""

    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Inline:
    """What is paid on the path of a request of one row.

    Attributes:
        tap_us: Median of pairs: an answer with the tap less one without.
        put: The hand-over alone.
        clean: Integrity, of rows as the reference has them.
        flagged: Integrity, of rows that break a rule.
    """

    tap_us: float
    put: Spread
    clean: Spread
    flagged: Spread


@dataclass(frozen=True, slots=True)
class Kept:
    """What all checks of a model keep.

    Attributes:
        rows: They have seen at the end.
        early_bytes: In memory after `WARM` of them.
        late_bytes: In memory at the end.
        stored_bytes: Their arrays, as a checkpoint holds them.
        checkpoint_ms: Median of a checkpoint of all checks.
        row_us: Processor time of all checks together for a row, `CHUNK` rows at once.
    """

    rows: int
    early_bytes: int
    late_bytes: int
    stored_bytes: int
    checkpoint_ms: float
    row_us: float

    @property
    def growth(self) -> float:
        """Return by how much of itself the state grew, or shrank."""
        return abs(self.late_bytes / self.early_bytes - 1)


@contextmanager
def opened(policy: Path, state: Path) -> Iterator[Site]:
    """Open the application of *policy* without a server, its checks armed, their thread at rest."""
    engine = Engine(composition.prepared(load_policy(policy), profile_host()))
    try:
        site = open_site(engine, Metrics(INFERENCE), EventStreams(EventLog()), _no_reload, state)
        assert site.checks is not None
        site.checks.arm()
        yield site
    finally:
        engine.close()


async def _no_reload(text: str) -> dict[str, object]:
    raise RuntimeError(f"a benchmark serves one policy, got another of {len(text)} characters")


def inline(site: Site, pairs: int) -> Inline:
    """Return what *pairs* of requests, and as many calls of each part, cost."""
    assert site.checks is not None
    assert site.guard is not None
    rows = rows_of("test")
    inspect, names, tap = site.guard.inspect, site.main().name, site.checks.tap
    outputs = {"logits": np.zeros((1, 10), np.float32)}
    broken = rows.copy()
    broken[:, 0] += 100  # one value beyond its range

    def inspected(given: Array) -> Callable[[int], object]:
        return lambda n: inspect(names, _one(given, n), 1, (), str)

    def put(number: int) -> None:
        tap.put(["0"], _one(rows, number), outputs, "logits", "logits", "model")

    found = Inline(
        tap_us=asyncio.run(_paired(site, rows, pairs)),
        put=_spread(put, pairs, lambda: tap.drain(0)),
        clean=_spread(inspected(rows), pairs),
        flagged=_spread(inspected(broken), pairs),
    )
    tap.drain(0)
    return found


def _one(rows: Array, number: int) -> dict[str, Array]:
    at = number % len(rows)
    return {INPUT: rows[at : at + 1]}


async def _paired(site: Site, rows: Array, pairs: int) -> float:
    """Return the median difference, in us, of two answers in turn, with and without the tap."""
    tapped, bare = site, replace(site, checks=None)
    assert tapped.checks is not None
    await site.engine.start()
    served = site.main()
    differences: list[float] = []
    for number in range(pairs):
        inputs, took = _one(rows, number), {}
        for each in (tapped, bare) if number % 2 else (bare, tapped):  # none is always second
            begun = time.perf_counter_ns()
            answer = await each.infer(served, inputs, 1, client="", deadline_ms=None, prefer=None)
            assert answer.prediction_ids  # made when first asked for; every reply has them
            took[each is tapped] = time.perf_counter_ns() - begun
        differences.append((took[True] - took[False]) / 1e3)
        if number % DRAINED == 0:
            tapped.checks.tap.drain(0)
    await site.engine.stop()
    return statistics.median(differences)


def _spread(
    call: Callable[[int], object], calls: int, between: Callable[[], object] | None = None
) -> Spread:
    took = np.empty(calls)
    for number in range(calls):
        if between is not None and number % DRAINED == 0:
            between()
        begun = time.perf_counter_ns()
        call(number)
        took[number] = time.perf_counter_ns() - begun
    p50, p99 = np.percentile(took, [50, 99]) / 1e3
    return Spread(float(p50), float(p99))


def kept(site: Site, rows: int, checkpoints: int = 20) -> Kept:
    """Return what the checks keep once they have seen *rows* more rows, drawn at random."""
    host = site.checks
    assert host is not None
    random = np.random.default_rng(0)
    pipeline = site.main().pipeline
    known = rows_of("validation", "test")
    logits = np.concatenate([pipeline.run({INPUT: part})["logits"] for part in _parts(known)])
    early, spent, seen = 0, 0.0, 0
    while seen < rows:
        chosen = random.integers(len(known), size=min(CHUNK, rows - seen))
        tapped = _tapped(site, known[chosen], logits[chosen], seen)
        begun = time.process_time()
        host.process(batches([tapped]), 0)  # no request: no checkpoint is due
        spent += time.process_time() - begun
        seen += len(chosen)
        if not early and seen >= WARM * rows:
            early = _weight(host)
    return Kept(
        rows=seen,
        early_bytes=early,
        late_bytes=_weight(host),
        stored_bytes=sum(
            array.nbytes
            for watch in host.watches
            if not watch.inline
            for array in watch.check.state().values()
        ),
        checkpoint_ms=statistics.median(_checkpoint_ms(host) for _ in range(checkpoints)),
        row_us=spent * 1e6 / seen,
    )


def _parts(rows: Array) -> Iterator[Array]:
    for at in range(0, len(rows), 32):
        yield rows[at : at + 32]


def _tapped(site: Site, rows: Array, logits: Array, seen: int) -> Tapped:
    pipeline = site.main().pipeline
    ids = [f"{number:027}" for number in range(seen, seen + len(rows))]
    variant = pipeline.candidate.variant_id
    outputs = {"logits": logits}
    return Tapped(ids, {INPUT: rows}, outputs, "logits", pipeline.kind, variant, time.time(), "", 0)


def _weight(host: Host) -> int:
    return sum(kept_bytes(watch.check) for watch in host.watches)


def _checkpoint_ms(host: Host) -> float:
    begun = time.perf_counter()
    host.checkpoint(force=True)
    return (time.perf_counter() - begun) * 1e3
