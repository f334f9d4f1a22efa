"""What an engine shows of itself, as Prometheus' families."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Counters, Engine

MIB = 2**20


def engine_families(engine: Engine) -> Iterator[Metric]:
    """Yield what runs, and how the scheduler and each loaded variant do at present."""
    plan = GaugeMetricFamily("scanflow_plan", "1: what runs.", labels=("policy", "run", "variant"))
    chosen = engine.plan.chosen
    plan.add_metric((engine.plan.policy, chosen.run, chosen.variant_id), 1)
    yield plan
    counters = engine.counters()
    for name, described, value in (
        ("queue_length", "Requests that wait for a core.", counters.queued),
        ("calls_running", "Calls of variants that run.", counters.running),
        ("memory_loaded_bytes", "Of all loaded variants, as measured.", counters.memory_mb * MIB),
        ("memory_budget_bytes", "What loaded variants may take.", counters.budget_mb * MIB),
    ):
        yield GaugeMetricFamily(f"scanflow_{name}", described, value=value)
    switches = CounterMetricFamily(
        "scanflow_switches",
        "Calls answered by another variant than the one before.",
        labels=("model", "reason"),
    )
    for key, count in counters.switches.items():
        switches.add_metric(key, count)
    yield switches
    planned = (engine.plan.chosen, *engine.plan.standbys)
    yield from _variants(counters, [candidate.variant_id for candidate in planned])


def _variants(counters: Counters, planned: list[str]) -> Iterator[Metric]:
    """Yield a family a figure; a variant does alike in all lanes that it answers."""
    loaded = GaugeMetricFamily(
        "scanflow_variant_loaded", "1 while it is loaded.", labels=("variant",)
    )
    ratio = GaugeMetricFamily(
        "scanflow_variant_latency_ratio",
        "Latency at present over that of the plan.",
        labels=("variant",),
    )
    rotation = GaugeMetricFamily(
        "scanflow_variant_in_rotation", "0 while it pauses: it failed.", labels=("variant",)
    )
    memory = GaugeMetricFamily(
        "scanflow_variant_memory_bytes", "As measured for the plan.", labels=("variant",)
    )
    failures = CounterMetricFamily(
        "scanflow_variant_failures", "Calls that failed.", labels=("variant",)
    )
    options = {option.variant: option for option in counters.options}
    for variant in dict.fromkeys((*planned, *options)):
        loaded.add_metric([variant], variant in options)
    for variant, option in options.items():
        ratio.add_metric([variant], option.ratio)
        rotation.add_metric([variant], option.in_rotation)
        memory.add_metric([variant], option.memory_mb * MIB)
        failures.add_metric([variant], option.failures)
    yield from (loaded, ratio, rotation, memory, failures)
