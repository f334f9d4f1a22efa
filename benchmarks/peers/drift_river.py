"""River's detectors with every default, fed the error of each row: ROWS.npz SECONDS OUT.json."""

import json
import sys
from pathlib import Path
from typing import Any

from drift_trials import run
from river import drift


class Watched:
    def __init__(self, detector: Any, reference: Any) -> None:
        self.detector = detector
        for error in reference.error:  # it has no reference: it learns from rows that came before
            self.detector.update(float(error))

    def alarms(self, rows: Any) -> bool:
        found = False
        for error in rows.error:
            self.detector.update(float(error))
            found |= self.detector.drift_detected
        return found


METHODS = {
    "River ADWIN": ("streaming", lambda known: Watched(drift.ADWIN(), known)),
    "River Page-Hinkley": ("streaming", lambda known: Watched(drift.PageHinkley(), known)),
    "River KSWIN": ("streaming", lambda known: Watched(drift.KSWIN(seed=0), known)),
}

if __name__ == "__main__":
    found = run(sys.argv[1], METHODS, float(sys.argv[2]))
    Path(sys.argv[3]).write_text(json.dumps(found))
