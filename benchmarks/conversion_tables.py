"""What a run of `conversion` measured, as tables in Markdown, and the aims beside it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from page import Aim, aim_lines

MIN_AGREEMENT = 0.99
# Of two medians measured here apart, even on a quiet machine.
NOISE = 0.05


@dataclass(frozen=True, slots=True)
class Setting:
    """How many rows a call has, and how many threads it may use."""

    batch: int
    threads: int

    def __str__(self) -> str:
        """Return the setting as tables and files name it."""
        return f"batch {self.batch}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run one model.

    Attributes:
        title: The model, for people.
        name: Of the way, such as ``openvino int8``.
        backend: Empty for the original and for plain ONNX Runtime, which nothing can choose.
        p50_ms: By the text of the setting.
        accuracy: On rows that nothing was fitted to.
        agreement: Share of these rows with the original's class.
        error: Of the outputs, relative to the original's.
        refusal: Why it may not be served.
        convert_s: What converting took, once for all settings.
    """

    model: str
    title: str
    name: str
    backend: str = ""
    digits: bool = False
    size_mb: float | None = None
    p50_ms: dict[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    agreement: float | None = None
    error: float | None = None
    refusal: str | None = None
    convert_s: float | None = None

    @property
    def served(self) -> bool:
        """Return whether selection may choose it."""
        return bool(self.backend) and self.refusal is None

    def best_ms(self, batch: int) -> float:
        """Return the lowest p50 at *batch*, with the number of threads that suits it best."""
        found = (p50 for text, p50 in self.p50_ms.items() if text.startswith(f"batch {batch},"))
        return min(found, default=math.inf)


ORIGINALS = ("torch eager", "scikit-learn")
PLAIN = "plain ONNX Runtime fp32"


def settings(cores: int) -> tuple[Setting, ...]:
    """Return what is measured on so many granted cores.

    >>> [str(s) for s in settings(1)]
    ['batch 1, 1 thread', 'batch 32, 1 thread']
    """
    return tuple(dict.fromkeys((Setting(1, 1), Setting(1, cores), Setting(32, cores))))


def original(rows: Iterable[Row], model: str) -> Row:
    """Return the row of *model* as it was given."""
    return next(row for row in rows if row.model == model and row.name in ORIGINALS)


def fastest(rows: Iterable[Row], model: str, batch: int, backend: str | None = None) -> float:
    """Return the lowest p50, in ms, of *model* at *batch* with any number of threads.

    Where *backend* can't serve it, nor anything else, the original does.
    """
    mine = [row for row in rows if row.model == model]
    served = [row for row in mine if row.served and backend in (None, row.backend)]
    return min(row.best_ms(batch) for row in served or [original(mine, model)])


def choice_ratio(rows: Sequence[Row], batch: int = 1) -> tuple[str, float]:
    """Return the best single backend, and its latency over that of the best for each model.

    Every backend has the precision and the number of threads that suit it best for each model;
    the ratio is the geometric mean over the models.
    """
    models = dict.fromkeys(row.model for row in rows)
    ratios = {
        backend: statistics.geometric_mean(
            fastest(rows, model, batch, backend) / fastest(rows, model, batch) for model in models
        )
        for backend in dict.fromkeys(row.backend for row in rows if row.served)
    }
    best = min(ratios, key=lambda backend: ratios[backend])
    return best, ratios[best]


def aims(rows: Sequence[Row]) -> Iterator[Aim]:
    """Return the project's aims with what was measured, as far as it was."""
    resnet = [row for row in rows if row.model == "resnet-18"]
    agreeing = [row for row in resnet if row.served and (row.agreement or 0) >= MIN_AGREEMENT]
    if resnet:
        best = min(agreeing, key=lambda row: row.best_ms(1), default=None)
        faster = original(rows, "resnet-18").best_ms(1) / best.best_ms(1) if best else 0.0
        name = f"{best.name}, agreement {best.agreement:.1%}" if best else "none agrees in 99 %"
        text = f"ResNet-18, batch 1, times torch eager ({name})"
        yield Aim(text, faster, 6, at_least=True)
    points = [*_points_lost(rows)]
    if points:
        models = f"the worst of {len(points)} models"
        text = f"accuracy lost on digits by int8, the better variant, {models}"
        yield Aim(text, max(points), 0.5, at_least=False, unit="points")
    if len({row.model for row in rows}) > 1 and any(row.served for row in rows):
        backend, ratio = choice_ratio(rows)
        text = f"{backend}, the best single backend, over the best for each model, batch 1"
        yield Aim(text, ratio, 1 + NOISE, at_least=True)


def _points_lost(rows: Sequence[Row]) -> Iterator[float]:
    """Return what each digits model loses in int8; refused variants count, else none could."""
    int8 = [row for row in rows if row.digits and row.name.endswith("int8")]
    for model in dict.fromkeys(row.model for row in int8 if row.accuracy is not None):
        before = original(rows, model).accuracy or 0.0
        found = (row.accuracy for row in int8 if row.model == model)
        yield 100 * min(before - accuracy for accuracy in found if accuracy is not None)


def table(rows: Sequence[Row], cores: int, judged: Iterable[Aim] | None = None) -> Iterator[str]:
    """Return the tables in Markdown, line by line; *judged* are the aims, by default of *rows*."""
    measured = settings(cores)
    head = [
        "model",
        "variant",
        "size",
        *map(str, measured),
        "times original",
        "accuracy",
        "agreement",
    ]
    yield f"| {' | '.join(head)} | |"
    yield "|---" * (len(head) + 1) + "|"
    for row in rows:
        if row.size_mb is None:
            continue  # was not made: it is listed below
        yield _line(row, original(rows, row.model), measured)
    yield from _refusals(rows)
    yield ""
    yield from aim_lines(aims(rows) if judged is None else judged)


def summary(rows: Sequence[Row], cores: int) -> Iterator[str]:
    """Return each model as it was given and its fastest variant, and the aims, in Markdown."""
    short = []
    for model in dict.fromkeys(row.model for row in rows):
        mine = [row for row in rows if row.model == model]
        served = [row for row in mine if row.served]
        short += [original(mine, model), *sorted(served, key=lambda row: row.best_ms(1))[:1]]
    yield from table(short, cores, aims(rows))


def _refusals(rows: Iterable[Row]) -> Iterator[str]:
    """Return each reason to refuse once, with the variants that it holds for."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.refusal:
            reasons.setdefault((row.title, row.refusal), []).append(row.name)
    if reasons:
        yield from ("", "Refused, and never offered to selection:", "")
    for (title, reason), names in reasons.items():
        yield f"- {title}, {', '.join(names)}: {reason}"


def _line(row: Row, base: Row, measured: Sequence[Setting]) -> str:
    cells = [
        row.title,
        row.name,
        _size(row.size_mb),
        *(_time(row.p50_ms.get(str(setting))) for setting in measured),
        f"{base.best_ms(1) / row.best_ms(1):.1f}" if row.p50_ms else "-",
        "-" if row.accuracy is None else f"{row.accuracy:.1%}",
        "-" if row.agreement is None else f"{row.agreement:.1%}",
        "refused" if row.refusal else "",
    ]
    return f"| {' | '.join(cells)} |"


def _size(mb: float | None) -> str:
    if mb is None:
        return "-"
    return f"{mb:.1f} MB" if mb >= 1 else f"{mb * 1024:.0f} kB"


def _time(ms: float | None) -> str:
    if ms is None:
        return "-"
    if ms >= 100:
        return f"{ms:,.0f} ms"
    return f"{ms:.3g} ms" if ms >= 1 else f"{ms * 1000:.0f} us"
