"""The loaded plan, live: what HTTP sees of the runtime.

`Engine.infer` answers one request. Which variant does, when, and together with which others is
the scheduler's decision (`runtime.scheduler`, pure); this package loads what it chooses between
(`residents`, `answerers`, `fleet`), says which names that serves (`lanes`), runs what it decides
(`dispatch`), and tells it what pins and rules want (`steering`).
"""

from __future__ import annotations

from scanflow_serve.runtime.engine.answerers import Served
from scanflow_serve.runtime.engine.engine import Engine
from scanflow_serve.runtime.engine.report import Counters, OptionCounters

__all__ = ["Counters", "Engine", "OptionCounters", "Served"]
