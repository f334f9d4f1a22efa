"""Runs a job in a child process that may crash, hang or be killed."""

from __future__ import annotations

from dataclasses import replace

from scanflow_serve.runtime.calibration.job import Job, Result, read_result
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.process import run_module

WORKER = "scanflow_serve.runtime.calibration.worker"


def run_child(job: Job, timeout_s: float) -> list[Result]:
    """Return the result of every candidate of *job*; a refusal for those that it did not reach."""
    ending = run_module(WORKER, job.to_json(), timeout_s=timeout_s)
    if ending.status is None:
        ending = replace(ending, text=f"{ending.text} (it hangs, or the host is too slow for it)")
    results = []
    for number in range(len(job.candidates)):
        try:
            results.append(read_result(job.folder / str(number)))
        except FileNotFoundError:
            results.append(Result(refusal=Refusal("failed", f"the measuring process {ending}.")))
    return results
