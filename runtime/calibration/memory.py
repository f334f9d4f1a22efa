"""Resident memory that loading and running a model adds."""

from __future__ import annotations

import psutil


class MemoryGauge:
    """Resident memory of this process since it was made, in MiB.

    Made after the backend's library is imported and before the model is loaded, so the library
    itself is not counted: it is there once, whatever is loaded. What it loads later on behalf of
    a model (OpenVINO's device plugin) is counted.
    """

    def __init__(self) -> None:
        self._before = _resident_mb()

    def added_mb(self) -> float:
        """Return what has been added; 0 if memory was given back meanwhile."""
        return max(0.0, _resident_mb() - self._before)


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20
