"""From what a policy says to the checks of one run, made and watched, none of them fitted yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from scanflow_serve.runtime.checks import configuration, registry
from scanflow_serve.runtime.checks.configuration import Configured
from scanflow_serve.runtime.checks.flagged import FlaggedRows, image_inputs
from scanflow_serve.runtime.checks.isolation import Bench
from scanflow_serve.runtime.checks.kinds import scored
from scanflow_serve.runtime.checks.lifecycle import Life
from scanflow_serve.runtime.checks.members import Stake
from scanflow_serve.runtime.checks.portfolio import Portfolio
from scanflow_serve.runtime.checks.protocol import Check
from scanflow_serve.runtime.checks.references import SEED, References, Subject
from scanflow_serve.runtime.checks.rows import Setting
from scanflow_serve.runtime.checks.storage import Storage
from scanflow_serve.runtime.checks.watch import Notify, Watch

INLINE_KIND = "integrity"  # works before inference, see `serving.http.guard`


@dataclass(frozen=True, slots=True)
class Assembly:
    """How the checks of one run are made.

    Attributes:
        inline: Checks of the request path, by name, made and armed by their caller.
        limit_s: Of one call to a check.
    """

    subject: Subject
    storage: Storage
    notify: Notify
    bench: Bench
    clock: Callable[[], float]
    limit_s: float
    inline: Mapping[str, Check]

    def configured(self) -> list[Configured]:
        """Return the checks of this run."""
        policy = self.subject.policy_file.policy
        return [
            check
            for check in configuration.configured(policy)
            if check.workflow in (None, self.subject.workflow, policy.name)
            and (check.kind != INLINE_KIND or check.name in self.inline)
        ]

    def watched(self) -> tuple[tuple[Watch, ...], References]:
        """Return each check of this run with a life of its own, and where they learn from.

        Raises:
            UsageError: A check is not installed, or refuses its settings.
            MissingExtraError: A check needs a package that is not installed.
        """
        subject = self.subject
        checks = self.configured()
        digests = {
            check.name: configuration.digest(check, subject.policy_file, subject.signature)
            for check in checks
        }
        images = image_inputs(subject.policy_file.policy, subject.signature)
        watches = tuple(
            Watch(
                configured=check,
                check=self.make(check),
                storage=self.storage,
                notify=self.notify,
                digest=digests[check.name],
                bench=self.bench,
                clock=self.clock,
                limit_s=self.limit_s,
                life=Life(since=self.clock()),
                inline=check.name in self.inline,
                # What works on the request path keeps its rows there.
                flagged=getattr(self.inline.get(check.name), "flagged", FlaggedRows(images)),
            )
            for check in checks
        )
        return watches, References(subject, checks, self.storage, digests)

    def make(self, check: Configured) -> Check:
        """Return what the policy asks for; a score becomes a check that bets on it.

        Raises:
            UsageError, MissingExtraError: As `watched`.
        """
        if check.name in self.inline:
            return self.inline[check.name]
        names = {spec.name for spec in self.subject.signature.inputs}
        setting = Setting(
            signature=self.subject.signature,
            classes=self.subject.classes,
            inputs=tuple(name for name in check.inputs if name in names),
            seed=SEED,
            strata=check.strata,
            block=check.block,
            images=image_inputs(self.subject.policy_file.policy, self.subject.signature),
        )
        made = registry.make(check.kind, setting, check.settings, check.where)
        if isinstance(made, Check):
            return made
        member = scored(check.kind, made, setting)
        return Portfolio(setting, [Stake(member, 1.0)], "drift")
