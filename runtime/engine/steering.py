"""Who bounds the scheduler's choices: an operator's pin first, then the policy's `adapt` rules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scanflow_serve.policies.conditions import compile_condition
from scanflow_serve.policies.errors import RequestError
from scanflow_serve.policies.schema import Adapt, Policy
from scanflow_serve.policies.vocabulary import ADAPT_VARIABLES
from scanflow_serve.runtime.events import Event
from scanflow_serve.runtime.scheduler.jobs import Option
from scanflow_serve.runtime.scheduler.rules import Asked, Change, Rules
from scanflow_serve.runtime.scheduler.scheduler import Scheduler

alerts = logging.getLogger("scanflow_serve.alerts")
LEVELS = logging.getLevelNamesMapping()


def means(what: str, option: Option) -> bool:
    """Return whether *what*, a model, a variant or a candidate, names *option* or part of it.

    A variant may be written without its threads, as rules may: ``digits-cnn/openvino-int8``.
    """
    if what == option.id or what == option.variant or what in option.models:
        return True
    parts = option.variant.split("+")
    return any(part == what or part.rpartition("x")[0] == what for part in parts)


def check_names(policy: Policy) -> frozenset[str]:
    """Return the names of the policy's checks."""
    return frozenset(check.name or kind for each in policy.checks for kind, check in each.items())


class Steering:
    """The pin and the rules of one policy, and what they make of the scheduler's choices.

    Args:
        notify: Called with what rules do and ask for.

    Attributes:
        pinned: What an operator pinned; None: nothing.
        rules: Empty where the policy has none.
    """

    def __init__(
        self, policy: Policy, scheduler: Scheduler, notify: Callable[[Event], None]
    ) -> None:
        names = check_names(policy)
        self.pinned: str | None = None
        self.rules = Rules(
            [(rule, compile_condition(rule.when, ADAPT_VARIABLES, names)) for rule in policy.adapt]
        )
        self._adapt: Sequence[Adapt] = policy.adapt
        self._acting: dict[int, Adapt] = {}
        self._scheduler = scheduler
        self._notify = notify

    @property
    def asked(self) -> Asked:
        """Return what the rules that act ask for."""
        return self.rules.asked

    @property
    def acting(self) -> tuple[int, ...]:
        """Return the indexes of the rules that act."""
        return tuple(sorted(self._acting))

    def wanted(self) -> tuple[str, ...]:
        """Return the models and variants that rules may ask for."""
        return tuple(dict.fromkeys(rule.use for rule in self._adapt if rule.use))

    def pin(self, what: str | None, loaded: Sequence[Option], now: float) -> None:
        """Answer by *what* alone wherever it can; None: by all again.

        Raises:
            RequestError: 404, *what* names none of the *loaded* options.
        """
        if what is not None and not any(means(what, option) for option in loaded):
            known = ", ".join(dict.fromkeys(option.variant for option in loaded))
            raise RequestError(
                404,
                f"{what!r} must be a loaded variant, candidate or model, got none of them. "
                f"Loaded here: {known}.",
            )
        self.pinned = what
        why = "no longer pinned" if what is None else f"pinned to {what}"
        self._notify(Event("pin", what or "", why))
        self._bind(now, why)

    def forget_pin(self, loaded: Sequence[Option], now: float) -> None:
        """Lift the pin if nothing that is loaded answers to it any more."""
        if self.pinned is not None and not any(means(self.pinned, option) for option in loaded):
            self.pin(None, loaded, now)

    def changed(self, changes: Sequence[Change], now: float) -> None:
        """Act on rules that began or ceased to act."""
        for change in changes:
            where = f"adapt[{change.index}]"
            if change.active:
                self._acting[change.index] = change.rule
                self._notify(Event("rule", where, f"holds: {change.rule.when}"))
                self._ask(where, change.rule)
            else:
                self._acting.pop(change.index, None)
                self._notify(Event("rule", where, f"no longer holds: {change.rule.when}"))
        if changes:
            texts = [f"adapt[{index}]" for index in self.acting]
            self._bind(now, f"rules that act: {', '.join(texts) or 'none'}")

    def _ask(self, where: str, rule: Adapt) -> None:
        if rule.alert is not None:
            level = rule.alert.log or "warning"
            alerts.log(LEVELS[level.upper()], "%s: %s", where, rule.when)
            details: Mapping[str, Any] = {"level": level, "webhook": rule.alert.webhook}
            self._notify(Event("alert", where, rule.when, details=details))
        if rule.retrain:
            workflow = rule.retrain if isinstance(rule.retrain, str) else None
            self._notify(Event("retrain", where, rule.when, details={"workflow": workflow}))

    def _bind(self, now: float, why: str) -> None:
        asked = self.asked
        what = self.pinned or asked.use
        self._scheduler.bound(
            now,
            goal=asked.prefer,
            only=None if what is None else lambda option: means(what, option),
            firm=self.pinned is not None,
            reason="pin" if self.pinned is not None or why == "no longer pinned" else "rule",
            why=why,
        )
