"""How checks come to know normal times: each is given its reference, or collects live rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.runtime.checks.references import SHARED, References, Variants
from scanflow_serve.runtime.checks.rows import Observed
from scanflow_serve.runtime.checks.watch import Watch


class Learning:
    """Fits the checks of one model as references come to be there.

    Args:
        variants: Returns what can answer now, by variant id.
        settled: Called when checks have been calibrated.
    """

    def __init__(
        self,
        watches: Sequence[Watch],
        references: References,
        variants: Callable[[], Variants],
        settled: Callable[[], None],
    ) -> None:
        self._watches = watches
        self._references = references
        self._variants = variants
        self._settled = settled
        self._known: set[str] = set()  # variants that checks on answers are calibrated for

    def begin(self) -> None:
        """Take up kept states; fit what has a reference. Others collect live rows."""
        for watch in self._watches:
            if watch.inline:
                watch.arm()
            elif not watch.resume():
                self._fit(watch)
        self._fit_answers()

    def observe(self, rows: Observed) -> None:
        """Collect live rows where they are wanted; calibrate for a variant that is new."""
        complete = self._references.observe(rows)
        for watch in self._watches:
            waits = watch.life.phase == "collecting" and not watch.life.disabled
            if watch.name in complete or (waits and SHARED in complete):
                self._fit(watch)
            elif waits:
                watch.life = watch.life.collecting(self._references.why(watch.name))
        if complete or rows.variant in set(self._variants()) - self._known:
            self._fit_answers()

    def _fit(self, watch: Watch) -> None:
        """Give *watch* its reference, if there is one by now; else it collects."""
        try:
            needs = watch.check.needs
            apart = "inputs" in needs and hasattr(watch.check, "fit_answers")
            answers = "outputs" in needs and not apart
            find = self._references.answers if answers else self._references.inputs
            reference = find(watch.name)
        except ScanflowError as error:
            watch.disable(str(error))
            return
        if reference is None:
            watch.life = watch.life.collecting(self._references.why(watch.name))
        else:
            watch.fit(reference)

    def _fit_answers(self) -> None:
        """Calibrate checks on answers for every variant that can answer now."""
        self._known = set(self._variants())
        for watch in self._watches:
            if "outputs" not in watch.check.needs or not watch.armed:
                continue
            try:
                reference = self._references.answers(watch.name)
            except ScanflowError as error:
                watch.disable(str(error))
                continue
            if reference is not None:
                watch.fit_answers(reference)
        self._settled()
