"""scanflow-serve's default checks with a PCA: ROWS.npz SECONDS OUT.json; needs ../ on the path."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from drift_trials import LEVEL, run
from traffic import bundled
from watched import Watched

from scanflow_serve.runtime.checks.reconstruction import PcaError
from scanflow_serve.runtime.checks.rows import Reference, Setting
from scanflow_serve.runtime.checks.scored import ANY, observed
from scanflow_serve.runtime.checks.statistics.bins import Bins
from scanflow_serve.runtime.checks.statistics.comparison import compare
from scanflow_serve.runtime.tensors import Signature, TensorSpec

DIGITS = bundled("digits")
BATCH = 200  # clean rows shown at once, as a busy server shows them
TESTS = ("ks", "wasserstein", "ks", "ks", "chi2")  # of what `views` returns


class Checks:
    def __init__(self, reference: Any) -> None:
        self.watched = _fitted(reference.values)

    def alarms(self, rows: Any) -> bool:
        return self.watched.alarms(rows.values)


def _fitted(reference: Any) -> Watched:
    for seed in range(20):  # one reference in a hundred does not bear out what it promises
        try:
            return Watched(DIGITS, reference, seed)
        except ValueError as error:
            refusal = error
    raise refusal


class Windows:
    """The window statistics: features, error by two, answers by two; Bonferroni."""

    def __init__(self, reference: Any) -> None:
        half = len(reference.values) // 2
        shape = (None, reference.values.shape[1])
        signature = Signature((TensorSpec("rows", "float32", shape),), ())
        self.score = PcaError(Setting(signature))
        self.score.fit(Reference({"rows": reference.values[:half]}))
        self.bins = [Bins.fit(view) for view in self.views(reference.part(half, 2 * half))]

    def views(self, rows: Any) -> list[Any]:
        error = self.score.score(observed(Reference({"rows": rows.values}), ANY))[:, None]
        classes = rows.probabilities.argmax(axis=1)[:, None]
        views = (rows.values, error, error, rows.probabilities, classes)
        return [np.asarray(view, np.float64) for view in views]

    def flags(self, rows: Any) -> bool:
        of = zip(self.bins, self.views(rows), TESTS, strict=True)
        found = [compare(bins, bins.counts(view), test).p for bins, view, test in of]
        return min(found) <= LEVEL / len(found)


METHODS = {
    "scanflow-serve, default checks": ("streaming", Checks, BATCH),
    "scanflow-serve, windows": ("windows", Windows),
}

if __name__ == "__main__":
    found = run(sys.argv[1], METHODS, float(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(found))
