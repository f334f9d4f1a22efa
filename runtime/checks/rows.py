"""Rows that checks look at: live ones as they were answered, and reference ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scanflow_serve.runtime.checks.images import ImageShape
from scanflow_serve.runtime.tensors import Array, Signature, Tensors


@dataclass(frozen=True, slots=True)
class Answers:
    """What one variant answered to some rows.

    Attributes:
        outputs: By public name, each of shape (rows, …).
        probabilities: Of the classification output, shape (rows, classes), float; None where the
            model has none.
        predicted: Class index of each row, shape (rows,), int64; None where there are no classes.
    """

    outputs: Tensors
    probabilities: Array | None = None
    predicted: Array | None = None

    def take(self, index: Array | slice) -> Answers:
        """Return those to the rows at *index*."""
        return Answers(
            outputs={name: array[index] for name, array in self.outputs.items()},
            probabilities=None if self.probabilities is None else self.probabilities[index],
            predicted=None if self.predicted is None else self.predicted[index],
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """Live rows, in order of their answers, all answered by one variant.

    Attributes:
        ids: Prediction id of each row.
        inputs: By public name, each of shape (rows, …). Never written to: they are the caller's.
        answers: What `variant` answered.
        variant: `Candidate.variant_id`.
        at: Unix time of each row's answer, in s, shape (rows,), float64.
        session: What the client said these rows belong to (a sensor, a stream); "" if nothing.
    """

    ids: Sequence[str]
    inputs: Tensors
    answers: Answers
    variant: str
    at: Array
    session: str = ""

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Reference:
    """Rows of normal times that a check is fitted to, in random order unless `ordered`.

    Attributes:
        inputs: By public name, each of shape (rows, …).
        answers: By variant id, what each loaded variant answers to `inputs`; rows that the models
            were not trained on. Empty where only inputs are known.
        target: True classes, shape (rows,); None where they are not known.
        seed: Of all that is drawn at random.
        source: For people: a file's name, or ``live``.
        run: Where `ordered`: number of the unbroken stretch that each row belongs to, shape
            (rows,); None: all are one. `take` sees to it, for windows must not span a gap.
        at: Unix time of each row, in s, shape (rows,); None: not known.
        session: What each row belongs to, text, shape (rows,); None: not known.
    """

    inputs: Tensors
    answers: Mapping[str, Answers] = field(default_factory=dict)
    target: Array | None = None
    ordered: bool = False
    seed: int = 0
    source: str = ""
    run: Array | None = None
    at: Array | None = None
    session: Array | None = None

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(next(iter(self.inputs.values())))

    def take(self, index: Array) -> Reference:
        """Return the rows at *index*."""
        return Reference(
            inputs={name: array[index] for name, array in self.inputs.items()},
            answers={variant: each.take(index) for variant, each in self.answers.items()},
            target=None if self.target is None else self.target[index],
            ordered=self.ordered,
            seed=self.seed,
            source=self.source,
            run=self._stretches(index) if self.ordered else None,
            at=None if self.at is None else self.at[index],
            session=None if self.session is None else self.session[index],
        )

    def _stretches(self, index: Array) -> Array:
        breaks = np.diff(index, prepend=index[:1]) != 1
        if self.run is not None:
            breaks |= np.diff(self.run[index], prepend=self.run[index][:1]) != 0
        stretches: Array = np.cumsum(breaks) - 1  # the first row begins one
        return stretches


@dataclass(frozen=True, slots=True)
class Setting:
    """What a check may know when it is made.

    Attributes:
        signature: The public inputs and outputs.
        classes: Class names in output order; None if the policy gives none.
        inputs: Names of the inputs that the policy points the check at; all by default.
        seed: Of all that is drawn at random.
        images: Which inputs are images, as far as the policy says so.
        strata: What rows are divided by: ``hour``, ``session`` or an input; "" if by nothing.
        block: Rows that are bet on together; 0: each by itself.
    """

    signature: Signature
    classes: tuple[str, ...] | None = None
    inputs: tuple[str, ...] = ()
    seed: int = 0
    images: Mapping[str, ImageShape] = field(default_factory=dict)
    strata: str = ""
    block: int = 0


def flat(inputs: Tensors, names: Sequence[str]) -> Array:
    """Return the named numeric inputs as one matrix, shape (rows, features), float64.

    Raises:
        ValueError: An input is text.
    """
    for name in names:
        if inputs[name].dtype.kind not in "biuf":
            raise ValueError(f"input {name!r} must be numeric, got dtype {inputs[name].dtype}")
    parts = [inputs[name].reshape(len(inputs[name]), -1) for name in names]
    return np.concatenate(parts, axis=1, dtype=np.float64)
