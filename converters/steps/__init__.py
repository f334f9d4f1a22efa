"""The conversion steps of `converters.routes`: imported only in the child process that runs one.

Importing openvino or nncf sends a usage event where openvino_telemetry is importable; it is hidden
here, before any of them: see `runtime.backends.ov`.
"""

from __future__ import annotations

import sys

if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # import then fails
