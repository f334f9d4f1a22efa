"""Inference sessions, one module a backend; `registry` names them without importing any.

Nothing here reports to anyone: unless the operator set the variable, ONNX Runtime (1.32 on Linux)
would write a device id below ``~/.cache/Microsoft`` and upload it with figures of each session.
It reads the variable when it is imported; its `disable_telemetry_events` comes too late.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
