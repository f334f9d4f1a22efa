"""The checks of a running server: what the host of checks is given, and the tap on its requests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.protocol import Check
from scanflow_serve.runtime.checks.references import Subject, Variants
from scanflow_serve.runtime.checks.watch import Notify
from scanflow_serve.runtime.events import Event
from scanflow_serve.serving.alarm_records import alarm_records
from scanflow_serve.serving.alerts import Alerts
from scanflow_serve.serving.http.guard import Guard

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine


def open_checks(
    engine: Engine, state: Path | None, guard: Guard | None, notify: Notify | None = None
) -> Host | None:
    """Return the host of the policy's checks, None if there are none or nowhere to keep them.

    Args:
        guard: Holds the integrity checks, which work on the request path.
        notify: Told of events, beside the log and webhooks.

    Raises:
        UsageError: A check is not installed, or refuses its settings.
        MissingExtraError: A check needs a package that is not installed.
    """
    if state is None or not engine.policy_file.policy.checks:
        return None
    host: Host | None = None
    alerts = Alerts(
        engine.policy_file.policy.name,
        lambda name: None if host is None else host.watch(name),
        record=alarm_records(engine.policy_file),
    )

    def tell(event: Event) -> None:
        alerts(event)
        if notify is not None:
            notify(event)

    host = Host(subject_of(engine), state, tell, inline=_inline(guard), closing=alerts.close)
    return host


def subject_of(engine: Engine) -> Subject:
    """Return what the checks of *engine* watch: the run that the policy's name stands for."""
    policy_file = engine.policy_file
    main = engine.served(policy_file.policy.name)
    return Subject(
        policy_file=policy_file,
        signature=main.signature,
        classes=main.labels,
        workflow=main.pipeline.candidate.run,
        variants=lambda: variants_of(engine),
    )


def variants_of(engine: Engine) -> Variants:
    """Return what can answer the policy's name now, by variant id."""
    return engine.pipelines(engine.policy_file.policy.name)


def _inline(guard: Guard | None) -> Mapping[str, Check]:
    return {} if guard is None else {check.name: check for check in guard.checks}
