"""Scores by reconstruction: how badly a model of normal rows redraws a row.

An autoencoder that `scanflow-serve fit-checks` has trained on the same rows is found by its
address and run as ONNX; a device that has none fits a PCA by itself, and says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.checks.movement import Movement
from scanflow_serve.runtime.checks.pca import Pca
from scanflow_serve.runtime.checks.protocol import Need
from scanflow_serve.runtime.checks.recipes import Recipe, detector_key, recipe
from scanflow_serve.runtime.checks.rows import Observed, Reference, Setting, flat
from scanflow_serve.runtime.checks.sequences import Buffers, Cut, Windowed, stretches
from scanflow_serve.runtime.checks.trained import Redrawn, Trained, stored_detector
from scanflow_serve.runtime.tensors import Array, Tensors

HUGE = 1e300  # an error beyond all numbers still ranks above every other
SHOWN_MOST = 1e30  # of one feature's error: histograms are kept in float32
ERROR = "reconstruction error of "

Find: TypeAlias = Callable[[str], Artifact | None]
log = logging.getLogger(__name__)


class Reconstructor(Protocol):
    """What redraws rows: `Pca` or `Trained`."""

    def redraw(self, windows: Array) -> Redrawn:
        """Return errors and latents of *windows*, shape (windows, span, features), float32."""
        ...

    def state(self) -> Mapping[str, Array]:
        """Return what it takes to have it again, as arrays."""
        ...


class ReconstructionError:
    """Error of redrawing a row, or the window that ends at it; see `Score`, `SequenceScore`.

    Args:
        setting: What the host knows of the run.
        made_by: Its method and settings.
        find: Returns the trained detector at an address, None if there is none.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"inputs"})

    def __init__(self, setting: Setting, made_by: Recipe, find: Find = stored_detector) -> None:
        numeric = [spec.name for spec in setting.signature.inputs if spec.dtype != "str"]
        self.names = tuple(name for name in setting.inputs or numeric if name in numeric)
        if not self.names:
            raise ValueError(
                f"{made_by.method}: input must name an input of numbers, got "
                f"{[spec.name for spec in setting.signature.inputs]}. Use a method for text."
            )
        self.setting = setting
        self.recipe = made_by
        self.span = made_by.steps
        self._find = find
        self._reconstructor: Reconstructor | None = None
        self._movement: Movement | None = None
        self._buffers = Buffers(self.span, 0)
        self._key = ""  # under which the trained one lies, or would

    @property
    def trained(self) -> bool:
        """Return whether what it runs was trained by ``fit-checks``."""
        return isinstance(self._reconstructor, Trained)

    def fit(self, reference: Reference) -> None:
        """Take up what was trained on these rows; where there is none, fit a PCA.

        Raises:
            ValueError: There are too few rows, windows of rows in no order are asked for, or
                nothing varies.
        """
        matrix, run = fit_rows(self.recipe, self.names, reference)
        self._reconstructor = self._trained(matrix, run) or Pca.fit(
            cut_windows(matrix, run, self.span), self.recipe
        )
        self._buffers = Buffers(self.span, matrix.shape[1])
        windows = cut_windows(matrix, run, self.span)
        self._movement = self._told_apart(self._redraw(windows), reference.inputs)

    def score(self, rows: Observed) -> Array:
        """Return the error of each row, shape (rows,); NaN where it has no whole window."""
        return self.windows(rows).scores

    def windows(self, rows: Observed) -> Windowed:
        """Return the errors of the windows that end at *rows*."""
        cut = self._cut(rows)
        scores = np.full(rows.rows, np.nan)
        if len(cut.windows):
            redrawn = self._redraw(cut.windows)
            scores[cut.whole] = np.minimum(redrawn.err, HUGE)
            if self._movement is not None:
                self._movement.observe(self._by_input(redrawn.err_feature, rows.inputs))
        return Windowed(scores, cut.whole, cut.apart)

    def latent(self, rows: Observed) -> Array:
        """Return where each row lies in the bottleneck, shape (rows, components), for distances.

        Raises:
            ValueError: It looks at windows, whose rows its sessions hold.
        """
        if self.span > 1:
            raise ValueError(f"latent: method must look at single rows, got {self.recipe.method}.")
        matrix = as_float32(rows.inputs, self.names)
        return self._redraw(matrix[:, None, :]).z

    def moved(self) -> tuple[Mapping[str, Any], ...]:
        """Return the features whose errors moved most, with histograms of before and after."""
        return () if self._movement is None else self._movement.moved()

    def forget(self) -> None:
        """Begin all sessions anew."""
        self._buffers.clear()

    def state(self) -> dict[str, Array]:
        """Return the reconstructor, as arrays; sessions begin anew after a restart."""
        if self._reconstructor is None:
            return {}
        parts = dict(self._reconstructor.state())
        parts |= {"key": np.array(self._key), "features": np.array(self._buffers.features)}
        if self._movement is not None:
            parts |= {f"movement/{name}": array for name, array in self._movement.state().items()}
        return parts

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take up what `state` returned.

        Raises:
            ValueError: The trained detector is gone from the store, or has come to be there since:
                what was learned of the other one's errors is void.
        """
        self._key = key = str(state["key"])
        artifact = self._find(key)
        if (artifact is None) != ("mean" in state):
            what = "gone" if artifact is None else "new"
            raise ValueError(
                f"{self.recipe.method}: the trained detector {key[:12]} is {what}. Fit again."
            )
        self._reconstructor = Pca.restored(state) if artifact is None else Trained(artifact)
        self._buffers = Buffers(self.span, int(state["features"]))
        kept = {
            name.removeprefix("movement/"): array
            for name, array in state.items()
            if name.startswith("movement/")
        }
        self._movement = Movement.restored(kept) if kept else None

    def _trained(self, matrix: Array, run: Array | None) -> Trained | None:
        if self.recipe.method == "pca":
            return None
        self._key = detector_key(self.recipe, matrix, run)
        try:
            artifact = self._find(self._key)
            if artifact is not None:
                return Trained(artifact)
            why = "none was trained on these rows"
        except ScanflowError as error:
            why = str(error)
        log.warning(
            "%s: PCA stands in: %s. Run: scanflow-serve fit-checks POLICY", self.recipe.method, why
        )
        return None

    def _redraw(self, windows: Array) -> Redrawn:
        if self._reconstructor is None:
            raise ValueError(f"{self.recipe.method}: must be fitted before it scores rows.")
        return self._reconstructor.redraw(windows)

    def _cut(self, rows: Observed) -> Cut:
        matrix = as_float32(rows.inputs, self.names)
        if self.span > 1:
            return self._buffers.cut(rows.session, matrix)
        every = np.ones(rows.rows, np.bool_)
        return Cut(matrix[:, None, :], every, every)

    def _told_apart(self, redrawn: Redrawn, inputs: Tensors) -> Movement:
        errors = self._by_input(redrawn.err_feature, inputs)
        return Movement(tuple(errors), errors)

    def _by_input(self, err_feature: Array, inputs: Tensors) -> Tensors:
        """Return the errors of features under their inputs' names, in the inputs' shapes."""
        found: Tensors = {}
        err_feature = np.minimum(err_feature, SHOWN_MOST)
        start = 0
        for name in self.names:
            shape = inputs[name].shape[1:]
            end = start + int(np.prod(shape, dtype=int))
            found[ERROR + name] = err_feature[:, start:end].reshape(-1, *shape)
            start = end
        return found


class PcaError(ReconstructionError):
    """Error of a principal component analysis, which a device fits by itself.

    Args:
        components: Kept; default: a fifth of the features, at most 32.
        steps: Rows of a window.
    """

    def __init__(
        self, setting: Setting, components: int | None = None, steps: int | None = None
    ) -> None:
        made_by = recipe("pca", components=components, steps=steps, seed=setting.seed)
        super().__init__(setting, made_by, find=_nothing)


def reconstruction(
    setting: Setting,
    method: str,
    *,
    components: int | None = None,
    steps: int | None = None,
    epochs: int | None = None,
) -> ReconstructionError:
    """Return the score of *method*, one of `recipes.METHODS`.

    Raises:
        ValueError: A setting is not of this method, or out of its range.
    """
    made_by = recipe(method, components=components, steps=steps, epochs=epochs, seed=setting.seed)
    return ReconstructionError(setting, made_by, _nothing if method == "pca" else stored_detector)


def fit_rows(
    made_by: Recipe, names: Sequence[str], reference: Reference
) -> tuple[Array, Array | None]:
    """Return the rows that a reconstructor is fitted to, and the stretch each belongs to.

    Returns:
        Rows of shape (rows, features), float32; stretches of shape (rows,), None if all are one.

    Raises:
        ValueError: Windows are asked for, and the rows are in no order.
    """
    if made_by.steps > 1 and not reference.ordered:
        raise ValueError(
            f"{made_by.method}: reference must be in order of time, got ordered: false. "
            "Say ordered: true if it is."
        )
    matrix = as_float32(reference.inputs, names)
    return matrix, reference.run if made_by.steps > 1 else None


def cut_windows(matrix: Array, run: Array | None, span: int) -> Array:
    """Return every window inside of a stretch, shape (windows, span, features).

    Raises:
        ValueError: No stretch is that long.
    """
    if span == 1:
        return matrix[:, None, :]
    buffers = Buffers(span, matrix.shape[1])
    parts = [
        buffers.cut(str(number), matrix[part]).windows
        for number, part in enumerate(stretches(run, len(matrix)))
    ]
    windows = np.concatenate(parts)
    if not len(windows):
        raise ValueError(
            f"reference: must hold {span} rows in a row, got stretches of at most "
            f"{max(part.stop - part.start for part in stretches(run, len(matrix)))}. "
            "Give more rows, or fewer steps."
        )
    return windows


def as_float32(inputs: Tensors, names: Sequence[str]) -> Array:
    """Return the named inputs as one matrix, shape (rows, features); inf where float32 ends."""
    with np.errstate(over="ignore"):
        matrix: Array = flat(inputs, names).astype(np.float32)
    return matrix


def _nothing(key: str) -> None:
    return None
