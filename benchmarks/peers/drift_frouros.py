"""Frouros' detectors: ROWS.npz SECONDS OUT.json.

Its batch tests compare one column; each column's p-value counts, by Bonferroni.
"""

import json
import sys
from pathlib import Path
from typing import Any

from drift_trials import LEVEL, run
from frouros.detectors.concept_drift import ADWIN
from frouros.detectors.data_drift import IncrementalKSTest, KSTest

WINDOW = 100
ALPHA = 0.01  # as its documentation has it


class Adwin:
    def __init__(self, reference: Any) -> None:
        self.detector = ADWIN()
        for error in reference.error:
            self.detector.update(value=float(error))

    def alarms(self, rows: Any) -> bool:
        found = False
        for error in rows.error:
            self.detector.update(value=float(error))
            found |= bool(self.detector.status["drift"])
        return found


class Incremental:
    def __init__(self, reference: Any) -> None:
        self.detector = IncrementalKSTest(window_size=WINDOW)
        self.detector.fit(X=reference.error)

    def alarms(self, rows: Any) -> bool:
        found = False
        for error in rows.error:
            result, _ = self.detector.update(value=float(error))
            found |= result is not None and result.p_value < ALPHA
        return found


class Columns:
    def __init__(self, reference: Any) -> None:
        self.tests = []
        for column in reference.values.T:
            test = KSTest()
            test.fit(X=column)
            self.tests.append(test)

    def flags(self, rows: Any) -> bool:
        columns = zip(self.tests, rows.values.T)  # noqa: B905  its Python may be 3.9
        return min(test.compare(X=c)[0].p_value for test, c in columns) <= LEVEL / len(self.tests)


METHODS = {
    "Frouros ADWIN": ("streaming", Adwin),
    "Frouros incremental KS": ("streaming", Incremental),
    "Frouros KS, Bonferroni": ("windows", Columns),
}

if __name__ == "__main__":
    found = run(sys.argv[1], METHODS, float(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(found))
