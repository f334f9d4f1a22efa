"""Whether inputs are what a model was made for: looked at before inference, in microseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from scanflow_serve.runtime.checks.close_look import CloseLook, OnFail
from scanflow_serve.runtime.checks.flagged import FlaggedRows
from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.checks.input_rules import RuleSet
from scanflow_serve.runtime.checks.input_schema import Bounds, Level, Schema
from scanflow_serve.runtime.checks.inspection import CLEAN, Finding, Inspection, Unread
from scanflow_serve.runtime.checks.integrity_tally import Tally
from scanflow_serve.runtime.checks.protocol import Cost, Family, Need, Reading, Verdicts
from scanflow_serve.runtime.checks.repeats import Repeats
from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting
from scanflow_serve.runtime.checks.schema_inference import Told, infer
from scanflow_serve.runtime.tensors import Array, Tensors


class Integrity:
    """The check of type ``integrity``: dtype, shape, range, missing values, levels, images.

    On a live server `inspect` sees every row before inference, refused ones too; `observe` is for
    rows that come another way, such as from a file.

    Args:
        on_fail: What becomes of a request that breaks a rule.
        range: By input or column, lowest and highest; no margin is added.
        levels: By input or column, the categories that there are.
        margin: Of inferred ranges, as a share of their width; None: by trial.
        columns: By input, names of a row's values.
        images: By input, how rows are pictures, where shapes alone don't tell.
        notify: Told of what was found, seldom: see `Tally`.

    Raises:
        ValueError: *range* or *levels* name what may not be.
    """

    family: ClassVar[Family] = "integrity"
    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})
    cost: ClassVar[Cost] = "inline"
    extra: ClassVar[str | None] = None
    mergeable: ClassVar[bool] = True

    def __init__(
        self,
        setting: Setting,
        *,
        name: str = "integrity",
        on_fail: OnFail = "flag",
        range: Mapping[str, Bounds] | None = None,  # noqa: A002  the policy's key
        levels: Mapping[str, list[Level]] | None = None,
        margin: float | None = None,
        columns: Mapping[str, tuple[str, ...]] | None = None,
        images: Mapping[str, ImageShape] | None = None,
        notify: Callable[[Finding], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if on_fail not in ("refuse", "flag", "repair"):
            raise ValueError(
                f"on_fail must be refuse, flag or repair, got {on_fail!r}. Choose one."
            )
        self.name = name
        self.on_fail: OnFail = on_fail
        self.told = Told(range or {}, levels or {}, margin, columns or {}, images or {})
        self.schema: Schema | None = None
        self.tally = Tally(notify=notify, clock=clock)
        self.flagged = FlaggedRows(setting.images)  # kept by whoever answers or refuses them
        self._setting = setting
        self._specs = {
            spec.name: spec
            for spec in setting.signature.inputs
            if not setting.inputs or spec.name in setting.inputs
        }
        self._rules: RuleSet | None = None
        self._look: CloseLook | None = None
        self._repeats: Repeats | None = None

    def fit(self, reference: Reference) -> None:
        """Infer the schema from *reference*, and arm.

        Raises:
            ValueError: Too few rows, or a column that is told of does not exist.
        """
        inputs = {name: reference.inputs[name] for name in self._specs}
        self.adopt(
            infer(
                inputs,
                self._setting.signature,
                self.told,
                source=reference.source,
                seed=self._setting.seed,
            )
        )

    def adopt(self, schema: Schema) -> None:
        """Hold rows to *schema* from now on.

        Raises:
            ValueError: It does not fit the model's inputs.
        """
        self._rules = RuleSet(schema.inputs, self._specs)
        require_known(self.told, schema)
        self.schema = schema
        self._look = CloseLook(self.name, self._rules, self.on_fail)
        self._repeats = None if schema.duplicates else Repeats()
        self.tally.clean_share = schema.tried.at_most if schema.tried is not None else 0.0

    def columns(self) -> tuple[str, ...]:
        """Return the names of the only input's values; none where there are none to go by."""
        if self.schema is None or len(self.schema.inputs) != 1:
            return ()
        names = tuple(each.name for each in next(iter(self.schema.inputs.values())).columns)
        return () if len(names) < 2 or all(name.isdecimal() for name in names) else names

    def inspect(self, inputs: Tensors, rows: int, unread: Sequence[Unread] = ()) -> Inspection:
        """Return what is wrong with a request, before inference, and count it.

        Args:
            inputs: By public name, each of shape (rows, …); never written to.
            unread: Cells that are no values; *inputs* has placeholders there.
        """
        rules, look = self._rules, self._look
        if rules is None or look is None:
            return CLEAN
        repeats = self._repeats.seen(inputs, rows) if self._repeats is not None else []
        if not repeats and not unread and rules.hold(inputs):
            self.tally.clean(rows)
            return CLEAN
        found = look(inputs, rows, unread, repeats)
        self.tally.count(found, rows)
        return found

    def observe(self, rows: Observed) -> Verdicts | None:
        """Inspect rows that did not come by `inspect`."""
        found = self.inspect({name: rows.inputs[name] for name in self._specs}, rows.rows)
        flagged: Array = np.zeros(rows.rows, np.bool_)
        if found.flagged and self._rules is not None:
            flagged = self._rules.broken(rows.inputs)
            flagged[[each.row for each in found.findings]] = True
        return Verdicts(p_val=None, flagged=flagged)

    def result(self) -> Reading:
        """Return the share of rows flagged since the last acknowledgement, and why."""
        if self.schema is None:
            return Reading(0.0, ready=False, why="It has no schema yet: it needs reference rows.")
        return self.tally.reading()

    def acknowledge(self) -> None:
        """Go on from nothing: a person has seen the alarm."""
        self.tally.clear()

    def state(self) -> Mapping[str, Array]:
        """Return counts and schema, as arrays."""
        text = "" if self.schema is None else self.schema.model_dump_json()
        return {**self.tally.state(), "schema": np.frombuffer(text.encode(), np.uint8)}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned; a schema that is already in force stays."""
        text = state["schema"].astype(np.uint8).tobytes().decode()
        if text and self.schema is None:
            self.adopt(Schema.model_validate_json(text))
        self.tally.restore(state)

    def merge(self, others: Sequence[Mapping[str, Array]]) -> None:
        """Count the other replicas' rows in."""
        self.tally.merge(others)


def require_known(told: Told, schema: Schema) -> None:
    """Hold what a policy tells of to the inputs and columns that there are.

    Raises:
        ValueError: It names another.
    """
    known = {*schema.inputs}
    known |= {column.name for each in schema.inputs.values() for column in each.columns}
    for key, names in (("range", told.range), ("levels", told.levels)):
        for name in names:
            if name not in known:
                shown = sorted(known, key=lambda each: (each.isdecimal(), each))[:12]
                raise ValueError(f"{key} must name an input or column of {shown}, got {name!r}.")
