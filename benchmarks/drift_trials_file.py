"""The rows that every drift detector is shown, written once: `peers/drift_trials.py` reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from shifted_streams import CALM, LONGEST, SHIFTS
from traffic import Population, Random, Rows, bundled, mixed, noisy, turned

from scanflow_serve.runtime.checks.reconstruction import PcaError
from scanflow_serve.runtime.checks.rows import Reference, Setting
from scanflow_serve.runtime.checks.scored import ANY, observed
from scanflow_serve.runtime.tensors import Signature, TensorSpec

REFERENCE = 2000  # rows
CLEAN = 10_000  # rows of a clean stream
WATCHED = SHIFTS[:6]  # those of the aims
WINDOWS = (50, 100, 500)  # rows
DRAWS = 20  # clean windows of each size, against one reference
CHANGES = {
    "noise 1/255": lambda rows, random: noisy(rows, random, 1 / 255),
    "noise 10/255": lambda rows, random: noisy(rows, random, 10 / 255),
    "noise 100/255": lambda rows, random: noisy(rows, random, 100 / 255),
    "turned 10": lambda rows, random: turned(rows, 10),
    "turned 40": lambda rows, random: turned(rows, 40),
    "turned 90": lambda rows, random: turned(rows, 90),
}
SHARES = (0.1, 0.5, 1.0)  # of a window's rows that change


class _File:
    """Arrays by name, with the error and the answer of every row beside it."""

    def __init__(self, population: Population) -> None:
        self.arrays: dict[str, Any] = {}
        self._population = population
        signature = Signature((TensorSpec("rows", "float32", (None, population.features)),), ())
        self._score = PcaError(Setting(signature))
        self._score.fit(Reference({"rows": population.draw(np.random.default_rng(41), REFERENCE)}))

    def add(self, name: str, rows: Rows) -> str:
        """Keep *rows*; return their name."""
        assert self._population.answer is not None
        self.arrays[f"{name}/values"] = rows
        self.arrays[f"{name}/error"] = self._score.score(observed(Reference({"rows": rows}), ANY))
        self.arrays[f"{name}/probabilities"] = self._population.answer(rows)
        return name


def write(
    path: Path, runs: int, clean: int = CLEAN, draws: int = DRAWS, longest: int = LONGEST
) -> None:
    """Write *runs* of every trial to *path*.

    Args:
        clean: Rows of a clean stream.
        draws: Clean windows of a size, against one reference.
        longest: Rows after a change.
    """
    digits = bundled("digits")
    file = _File(digits)
    plan: dict[str, list[Any]] = {"clean": [], "shift": [], "power": []}
    for run in range(runs):
        random = np.random.default_rng([run, 43])
        known = file.add(f"reference-{run}", digits.draw(random, REFERENCE))
        live = file.add(f"clean-{run}", digits.draw(random, clean))
        plan["clean"].append({"reference": known, "live": live})
        plan["shift"] += _shifts(file, digits, random, run, known, longest)
        plan["power"].append(_windows(file, digits, random, known, draws))
    np.savez(path, plan=np.array(json.dumps(plan)), **file.arrays)


def _shifts(
    file: _File, digits: Population, random: Random, run: int, known: str, longest: int
) -> list[dict[str, str]]:
    found = []
    for number, shift in enumerate(WATCHED):
        reference, calm = known, digits.draw(random, CALM)
        place = f"shift-{run}-{number}"
        if shift.before is not None:
            normal = shift.before(digits, random, REFERENCE)
            reference = file.add(f"{place}-reference", normal)
            calm = shift.before(digits, random, CALM)
        live = file.add(place, shift.live(digits, random, longest))
        calmly = file.add(f"{place}-calm", calm)
        found.append({"name": shift.name, "reference": reference, "calm": calmly, "live": live})
    return found


def _windows(
    file: _File, digits: Population, random: Random, known: str, draws: int
) -> dict[str, Any]:
    clean, changed = [], []
    for size in WINDOWS:
        for draw in range(draws):
            live = file.add(f"{known}-clean-{size}-{draw}", digits.draw(random, size))
            clean.append({"size": size, "live": live})
    for size in WINDOWS[1:]:
        for name, change in CHANGES.items():
            for share in SHARES:
                rows = digits.draw(random, size)
                rows = mixed(rows, change(rows, random), random, share)
                live = file.add(f"{known}-{size}-{name}-{share}", rows)
                changed.append({"size": size, "live": live})
    return {"reference": known, "clean": clean, "changed": changed}
