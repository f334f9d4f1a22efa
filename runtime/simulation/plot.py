"""A picture of one run: load, what answered, and what was missed, over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from scanflow_serve.policies.errors import MissingExtraError, UsageError
from scanflow_serve.runtime.simulation.results import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")
STEPS = 240  # points of time; as many as can be told apart


def check_format(path: Path) -> None:
    """Check that a picture can be written to *path*, before anything is computed for it.

    Raises:
        UsageError: Its suffix is none of `FORMATS`, or its folder does not exist.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot: must end with .svg or .png, got {str(path)!r}. Name it so.")
    if not path.parent.is_dir():
        raise UsageError(f"--plot: must lie in a folder, got {str(path)!r}. Make its folder first.")


def write(path: Path, shown: Timeline, title: str) -> None:
    """Write the picture of *shown* to *path*; its suffix says in which format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: The file can't be written.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "simulate", "leave out --plot") from None
    with rc_context({"font.size": 9}):
        figure = Figure(figsize=(10, 7), layout="constrained")
        load, answers, misses = figure.subplots(3, 1, sharex=True, height_ratios=[2, 3, 1])
        figure.suptitle(title)
        at = [step * shown.step_s for step in range(len(shown.load_rps))]
        load.plot(at, shown.load_rps, color="black", linewidth=0.8)
        _label(load, "requests/s")
        if shown.answers_rps:
            answers.stackplot(
                at, list(shown.answers_rps.values()), labels=list(shown.answers_rps), step="mid"
            )
            answers.legend(loc="upper left", fontsize=7)
        _label(answers, "answers/s by variant")
        misses.fill_between(at, shown.misses_rps, color="tab:red", step="mid")
        _label(misses, "misses/s")
        misses.set_xlabel("s")
        try:
            figure.savefig(path)
        except OSError as error:
            raise UsageError(
                f"--plot: {path} must be writable, got {error.strerror!r}. Name another file."
            ) from None


def _label(axes: Axes, text: str) -> None:
    axes.set_ylabel(text)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
