"""alibi-detect 0.11.4, the last under Apache's licence: ROWS.npz SECONDS OUT.json."""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from alibi_detect.cd import KSDrift, MMDDrift, MMDDriftOnline
from drift_trials import run

ERT = 1000  # rows between false alarms; 10,000 would take 100,000 bootstraps to set its thresholds
WINDOW = 10
KNOWN = 500  # rows of the reference that MMD, quadratic in them, is given


class Online:
    """MMD, row by row; its thresholds take seconds, so that one reference's are kept."""

    made: dict = {}  # noqa: RUF012

    def __init__(self, reference: Any) -> None:
        key = reference.values.tobytes()
        if key not in self.made:
            self.made.clear()
            self.made[key] = MMDDriftOnline(
                reference.values[:KNOWN], ERT, WINDOW, n_bootstraps=10 * ERT, verbose=False
            )
        self.detector = self.made[key]
        self.detector.reset_state()

    def alarms(self, rows: Any) -> bool:
        return any(self.detector.predict(row)["data"]["is_drift"] for row in rows.values)


class Test:
    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def flags(self, rows: Any) -> bool:
        return bool(self.detector.predict(rows.values)["data"]["is_drift"])


METHODS = {
    f"alibi-detect online MMD, ERT {ERT:,}": ("streaming", Online),
    "alibi-detect KS": ("windows", lambda known: Test(KSDrift(known.values))),
    "alibi-detect KS, softmax": (
        "windows",
        lambda known: Softmax(KSDrift(known.probabilities)),
    ),
    "alibi-detect MMD": ("windows", lambda known: Test(MMDDrift(known.values[:KNOWN]))),
}


class Softmax(Test):
    def flags(self, rows: Any) -> bool:
        return bool(self.detector.predict(rows.probabilities)["data"]["is_drift"])


if __name__ == "__main__":
    found = run(sys.argv[1], METHODS, float(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(found))
