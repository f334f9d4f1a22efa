"""What a policy may say that this version checks but does not act on."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from scanflow_serve.policies.schema import CheckerStep, ParallelStep, Policy, ScriptStep, Step
from scanflow_serve.serving.alarm_records import INSTALL


def inactive_sections(policy: Policy) -> tuple[str, ...]:
    """Return a sentence for each section that is validated but not acted on by this version."""
    sections = {
        "feedback": policy.feedback,
        "store": policy.store,
    }
    named = [
        f"{name}: validated, not active in this version." for name, on in sections.items() if on
    ]
    batch = [name for name, flow in policy.workflows.items() if any(map(_is_batch, flow.steps))]
    return (
        *named,
        *_inactive_tracking(policy),
        *_inactive_requests(policy),
        *(f"workflows.{name}: batch steps are not run in this version." for name in batch),
    )


def _inactive_tracking(policy: Policy) -> Iterator[str]:
    """Yield what keeps alarms, which are all that is tracked yet, from being recorded."""
    if policy.track is not None and not policy.checks:
        yield "track: validated, not active in this version without checks: it records alarms."
    elif policy.track is not None and find_spec("mlflow") is None:
        yield f"track: alarms are not recorded: {INSTALL}."


def _inactive_requests(policy: Policy) -> Iterator[str]:
    """Yield a sentence for each thing that a rule asks for and nobody does yet."""
    for index, rule in enumerate(policy.adapt):
        if rule.alert is not None and rule.alert.webhook:
            yield f"adapt[{index}].alert.webhook: not called in this version; it is in GET /events."
        if rule.retrain:
            yield f"adapt[{index}].retrain: not begun in this version; it is in GET /events."


def _is_batch(step: Step) -> bool:
    if isinstance(step, ParallelStep):
        return any(map(_is_batch, step.parallel))
    return isinstance(step, ScriptStep | CheckerStep)
