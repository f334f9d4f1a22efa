"""What Grafana shows of this server's metrics, and what Prometheus warns of."""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = "$__rate_interval"  # Grafana's: at least four scrapes


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart.

    Attributes:
        unit: As Grafana names it.
        queries: PromQL, and how its series are called.
        width: Of 24 columns.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    width: int = 12


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert.

    Attributes:
        holds: How long *expression* must hold, as Prometheus writes it.
    """

    name: str
    expression: str
    holds: str
    severity: str
    summary: str


def _rate(metric: str, *labels: str) -> tuple[str, str]:
    """Return a counter's rate, summed but for *labels*."""
    legend = " ".join(f"{{{{{label}}}}}" for label in labels)
    return f"sum by ({', '.join(labels)}) (rate({metric}[{WINDOW}]))", legend


def _quantiles(metric: str, label: str) -> tuple[tuple[str, str], ...]:
    rate = f"sum by (le, {label}) (rate({metric}_bucket[{WINDOW}]))"
    return tuple(
        (f"histogram_quantile({q}, {rate})", f"p{round(q * 100)} {{{{{label}}}}}")
        for q in (0.5, 0.95, 0.99)
    )


def _mean(metric: str, label: str) -> tuple[str, str]:
    parts = (f"sum by ({label}) (rate({metric}_{end}[{WINDOW}]))" for end in ("sum", "count"))
    return " / ".join(parts), f"mean {{{{{label}}}}}"


NOW = (
    Panel("Ready", "none", (("scanflow_ready", "{{instance}}"),), "stat", 4),
    Panel("In flight", "none", (("scanflow_in_flight", "{{instance}}"),), "stat", 4),
    Panel("What the plan chose", "none", (("scanflow_plan", "{{variant}}"),), "stat", 8),
    Panel(
        "Checks in alarm",
        "none",
        (('sum by (instance) (scanflow_check_state{state="alarm"})', "{{instance}}"),),
        "stat",
        8,
    ),
)
TRAFFIC = (
    Panel("Requests", "reqps", (_rate("scanflow_requests_total", "route", "status"),)),
    Panel("Latency of requests", "s", _quantiles("scanflow_request_seconds", "route")),
    Panel(
        "Refused or failed",
        "reqps",
        (_rate("scanflow_inference_failures_total", "model", "reason"),),
    ),
    Panel("Inference", "s", _quantiles("scanflow_compute_seconds", "model")),
)
SCHEDULER = (
    Panel("Requests by variant", "reqps", (_rate("scanflow_inferences_total", "variant"),)),
    Panel("Rows by variant", "rowsps", (_rate("scanflow_predictions_total", "variant"),)),
    Panel(
        "Goodput: answered in time, and weighted by expected accuracy",
        "reqps",
        (
            (_rate("scanflow_goodput_total", "model")[0], "in time {{model}}"),
            (_rate("scanflow_goodput_accuracy_total", "model")[0], "weighted {{model}}"),
        ),
    ),
    Panel("Missed deadlines", "reqps", (_rate("scanflow_deadline_misses_total", "model", "how"),)),
    Panel("Switches by reason", "ops", (_rate("scanflow_switches_total", "model", "reason"),)),
    Panel(
        "Queue",
        "none",
        (
            ("scanflow_queue_length", "waiting {{instance}}"),
            ("scanflow_calls_running", "running {{instance}}"),
        ),
    ),
    Panel("Wait before inference", "s", _quantiles("scanflow_queue_seconds", "model")),
    Panel(
        "Rows of a call",
        "none",
        (_quantiles("scanflow_batch_rows", "model")[1], _mean("scanflow_batch_rows", "model")),
    ),
    Panel(
        "Latency at present over that of the plan",
        "none",
        (("scanflow_variant_latency_ratio", "{{variant}}"),),
    ),
    Panel(
        "Variants in rotation",
        "none",
        (("scanflow_variant_in_rotation", "{{variant}}"),),
    ),
    Panel("Failures by variant", "ops", (_rate("scanflow_variant_failures_total", "variant"),)),
    Panel(
        "Memory of loaded variants",
        "bytes",
        (
            ("scanflow_memory_loaded_bytes", "loaded {{instance}}"),
            ("scanflow_memory_budget_bytes", "budget {{instance}}"),
        ),
    ),
)
CHECKS = (
    Panel(
        "Checks against the run length",
        "none",
        (
            ("scanflow_check_score", "{{check}}"),
            ("scanflow_checks_wealth", "all together"),
            ("scanflow_checks_run_length", "threshold"),
        ),
    ),
    Panel("State of checks", "none", (("scanflow_check_state == 1", "{{check}} {{state}}"),)),
    Panel(
        "Rows that checks saw and missed",
        "rowsps",
        (
            (f"rate(scanflow_checks_rows_total[{WINDOW}])", "seen"),
            (f"rate(scanflow_tap_dropped_rows_total[{WINDOW}])", "missed"),
        ),
    ),
    Panel("Rows that wait for checks", "none", (("scanflow_tap_waiting_rows", "{{instance}}"),)),
)
PANELS = (*NOW, *TRAFFIC, *SCHEDULER, *CHECKS)

RULES = (
    Rule(
        "ScanflowNotReady",
        "scanflow_ready == 0",
        "2m",  # a first start measures its candidates
        "critical",
        "{{ $labels.instance }} has answered no predictions for two minutes.",
    ),
    Rule(
        "ScanflowGone",
        "scanflow_ready offset 10m unless scanflow_ready",
        "2m",  # a restart takes seconds
        "critical",
        "{{ $labels.instance }} told its metrics ten minutes ago, and does no more.",
    ),
    Rule(
        "ScanflowRefuses",
        'sum by (instance) (rate(scanflow_requests_total{status=~"429|5.."}[5m]))'
        " > 0.05 * sum by (instance) (rate(scanflow_requests_total[5m]))",
        "5m",
        "warning",
        "{{ $labels.instance }} refuses or fails more than one request in twenty.",
    ),
    Rule(
        "ScanflowMissesDeadlines",
        "sum by (instance, model) (rate(scanflow_deadline_misses_total[5m]))"
        " > 0.05 * sum by (instance, model) (rate(scanflow_queue_seconds_count[5m]))",
        "5m",
        "warning",
        "{{ $labels.model }} of {{ $labels.instance }} misses more than one deadline in twenty.",
    ),
    Rule(
        "ScanflowVariantPaused",
        "scanflow_variant_in_rotation == 0",
        "10m",  # it is tried again by itself, later each time in vain
        "warning",
        "{{ $labels.variant }} of {{ $labels.instance }} fails, and does not answer.",
    ),
    Rule(
        "ScanflowSlowerThanPlanned",
        "scanflow_variant_latency_ratio > 2",
        "15m",  # what shares the machine may come and go
        "info",
        "{{ $labels.variant }} of {{ $labels.instance }} takes twice as long as when it was"
        " measured. Is the host hot, throttled or busy?",
    ),
    Rule(
        "ScanflowCheckAlarm",
        'scanflow_check_state{state="alarm"} == 1',
        "0m",  # latched until a person acknowledges it: it needs no time to settle
        "warning",
        "Check {{ $labels.check }} of {{ $labels.instance }} is in alarm. /ui shows why.",
    ),
    Rule(
        "ScanflowCheckDisabled",
        "scanflow_check_disabled == 1",
        "0m",  # for good
        "warning",
        "Check {{ $labels.check }} of {{ $labels.instance }} failed, and is off.",
    ),
    Rule(
        "ScanflowChecksMissRows",
        "rate(scanflow_tap_dropped_rows_total[10m]) > 0.1 * rate(scanflow_checks_rows_total[10m])",
        "10m",
        "info",
        "Checks of {{ $labels.instance }} miss more than one row in ten: they come too fast.",
    ),
)
