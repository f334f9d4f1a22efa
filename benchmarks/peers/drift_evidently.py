"""Evidently's verdict on a data set with every default: ROWS.npz SECONDS OUT.json.

`DriftedColumnsCount` is the first of `DataDriftPreset`, which draws each column too: 5 s a report.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from drift_trials import run
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DriftedColumnsCount


class Verdict:
    """The verdict of the report: half of the columns have drifted, or any has."""

    def __init__(self, reference: Any, *, whole: bool) -> None:
        self.columns = [f"x{n}" for n in range(reference.values.shape[1])]
        self.whole = whole
        self.definition = DataDefinition(numerical_columns=self.columns)
        self.reference = self.dataset(reference)

    def dataset(self, rows: Any) -> Any:
        frame = pd.DataFrame(rows.values, columns=self.columns)
        return Dataset.from_pandas(frame, self.definition)

    def flags(self, rows: Any) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that are constant
            found = Report([DriftedColumnsCount()]).run(self.dataset(rows), self.reference).dict()
        value = found["metrics"][0]["value"]
        return bool(value["share"] >= 0.5 if self.whole else value["count"] > 0)


METHODS = {
    "Evidently, half of the columns": ("windows", lambda known: Verdict(known, whole=True)),
    "Evidently, any column": ("windows", lambda known: Verdict(known, whole=False)),
}

if __name__ == "__main__":
    found = run(sys.argv[1], METHODS, float(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(found))
