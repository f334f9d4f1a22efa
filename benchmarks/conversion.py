"""What converting gains and costs: every backend and precision, against torch eager.

    python benchmarks/conversion.py [--seconds 60] [--only mlp,resnet-18] [--update README.md]

Seven models go through the product's own converters; what comes out is verified, and timed in
interleaved rounds (A B C … A B C …) beside the original. Method: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import zoo
from conversion_tables import PLAIN, Row, Setting, settings, table
from converted import INPUT, Source, Variant, variants, write
from page import machine, update
from subjects import SUBJECTS, Array, Subject

from scanflow_serve.converters.origins.rows import in_portions
from scanflow_serve.converters.verification import verify
from scanflow_serve.policies.errors import ArtifactError, BackendError
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.calibration.benchmark import Effort, measure_latency
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.tensors import Tensors

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / ".build/bench/conversion"
MB = 2**20

Run = Callable[[Array], object]
Load = Callable[[int], Run]  # threads -> a loaded model


def rows_of(subject: Subject, host: HostProfile, seconds: float) -> list[Row]:
    """Return the figures of the original, of plain ONNX Runtime and of every variant."""
    say(f"{subject.title}: fit, export")
    source = write(subject, BUILD / subject.key)
    found = [*baselines(source)]
    for variant in variants(source, host):
        row, load = judged(source, variant, thread_count(host))
        say(f"{subject.title}: {row.name}{f' refused: {row.refusal}' if row.refusal else ''}")
        found.append((row, load))
    loads = {row.name: load for row, load in found if load is not None}
    chosen = settings(thread_count(host))
    p50_ms: dict[str, dict[str, float]] = {row.name: {} for row, _ in found}
    for setting in chosen:
        say(f"{subject.title}: {setting}")
        for name, ms in measured(loads, source, setting, seconds / len(chosen)).items():
            p50_ms[name][str(setting)] = ms
    return [replace(row, p50_ms=p50_ms[row.name]) for row, _ in found]


def baselines(source: Source) -> Iterator[tuple[Row, Load | None]]:
    """Return the original, and its export in ONNX Runtime as its documentation runs one."""
    load, name = (eager, "torch eager") if source.subject.factory else (estimator, "scikit-learn")
    output = next(iter(source.reference.values()))
    accuracy = float(np.mean(output.argmax(axis=1) == source.data.judged.classes))
    row = _row(source, name, source.weights)
    yield replace(row, accuracy=accuracy), lambda threads: load(source, threads)
    exported = _row(source, PLAIN, source.exported)
    values: Any = plain(source, 1)(source.data.judged.inputs)
    outputs = dict(zip(source.reference, values, strict=True))
    yield _compared(exported, source, outputs, "fp32"), lambda threads: plain(source, threads)


def judged(source: Source, variant: Variant, threads: int) -> tuple[Row, Load | None]:
    """Return a variant's figures but its latency, verified on the backend that is to run it."""
    goal, artifact = variant.goal, variant.made
    name = f"{goal.backend} {goal.precision}"
    blank = Row(source.subject.key, source.subject.title, name, goal.backend, source.subject.digits)
    blank = replace(blank, convert_s=variant.convert_s)
    if isinstance(artifact, Refusal):
        return replace(blank, refusal=artifact.reason), None
    row = replace(blank, size_mb=artifact.size_bytes / MB)
    backend = registry.backend(goal.backend)

    def load(threads: int) -> Run:
        session = backend.open(artifact, precision=goal.precision, device="CPU", threads=threads)
        return lambda inputs: session.run({INPUT: inputs})

    try:
        session = backend.open(artifact, precision=goal.precision, device="CPU", threads=threads)
        outputs = in_portions(session.run, {INPUT: source.data.judged.inputs})
    except (ArtifactError, BackendError) as error:
        return replace(row, refusal=str(error)), None
    session.close()
    return _compared(row, source, outputs, goal.precision), load


def measured(
    loads: Mapping[str, Load], source: Source, setting: Setting, seconds: float
) -> dict[str, float]:
    """Return the p50 of each in ms: rounds over all of them, medians over the rounds."""
    inputs = np.ascontiguousarray(source.data.judged.inputs[: setting.batch])
    calls = [_call(load(setting.threads), inputs) for load in loads.values()]
    # It visits batch sizes in turn and knows them by number; here numbers are contenders. None
    # is left out, however slow.
    effort = Effort(slice_s=seconds, limit_s=math.inf, give_up_ms=math.inf, window_s=0)
    latency = measure_latency(dict(enumerate(calls)), effort)
    return {name: latency[number].p50_ms for number, name in enumerate(loads)}


def eager(source: Source, threads: int) -> Run:
    """Return the torch module, called without gradients."""
    import torch
    from safetensors.torch import load_file

    module = getattr(zoo, source.subject.factory)()
    module.load_state_dict(load_file(source.weights))
    module.eval()
    torch.set_num_threads(threads)

    def run(inputs: Array) -> Array:
        with torch.inference_mode():
            return module(torch.from_numpy(inputs)).numpy()

    return run


def estimator(source: Source, threads: int) -> Run:
    """Return the estimator's ``predict_proba``; threads only cost it, at these sizes."""
    import skops.io

    trusted = skops.io.get_untrusted_types(file=source.weights)  # of our own making
    return skops.io.load(source.weights, trusted=trusted).predict_proba


def plain(source: Source, threads: int) -> Run:
    """Return the export in ONNX Runtime, all settings but the threads as they are by default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        source.exported, options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: session.run(None, {INPUT: inputs})


def _compared(row: Row, source: Source, outputs: Tensors, precision: str) -> Row:
    """Return *row* with what its outputs are worth, and whether they may be served."""
    verification = verify(source.reference, outputs, precision=precision)
    name, reference = next(iter(source.reference.items()))
    found = verification.figures.get(name)
    if found is None:
        return replace(row, refusal=verification.refusal.reason if verification.refusal else None)
    classes = source.data.judged.classes
    accuracy = float(np.mean(outputs[name].argmax(axis=1) == classes))
    lost = float(np.mean(reference.argmax(axis=1) == classes)) - accuracy
    refusal = verification.refusal.reason if verification.refusal else None
    # A ratio of counts: the margin only forgives binary fractions.
    if refusal is None and lost > source.max_accuracy_drop + 1e-9:
        allowed = source.max_accuracy_drop
        refusal = f"loses {lost:.3g} of accuracy, max_accuracy_drop allows {allowed:g}"
    return replace(
        row, accuracy=accuracy, agreement=found.agreement, error=found.error, refusal=refusal
    )


def _row(source: Source, name: str, file: Path) -> Row:
    subject = source.subject
    size_mb = file.stat().st_size / MB
    return Row(subject.key, subject.title, name, digits=subject.digits, size_mb=size_mb)


def _call(run: Run, inputs: Array) -> Callable[[], object]:
    return lambda: run(inputs)


def thread_count(host: HostProfile) -> int:
    """Return how many threads the granted cores are worth."""
    return max(1, int(host.cpu.cores))


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


def report(rows: Sequence[Row], host: HostProfile) -> str:
    """Return the tables, and where they come from."""
    lines = [*table(rows, thread_count(host)), "", f"{machine()}; {time.strftime('%Y-%m-%d')}."]
    return "\n".join(lines)


def main() -> None:
    """Convert, measure, print the tables, write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of measuring, all models")
    parser.add_argument("--only", default=",".join(SUBJECTS), help=f"of {','.join(SUBJECTS)}")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables into FILE")
    options = parser.parse_args()
    keys = options.only.split(",")
    if unknown := [key for key in keys if key not in SUBJECTS]:
        parser.error(f"--only must name models of {', '.join(SUBJECTS)}, got {unknown[0]!r}")
    host = profile_host()
    rows = [
        row for key in keys for row in rows_of(SUBJECTS[key], host, options.seconds / len(keys))
    ]
    folder = ROOT / "benchmarks/results"
    folder.mkdir(exist_ok=True)
    result = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "rows": [*map(asdict, rows)]}
    (folder / "conversion.json").write_text(json.dumps(result, indent=2) + "\n")
    text = report(rows, host)
    print(text)
    if options.update:
        update(options.update, "conversion", text)


if __name__ == "__main__":
    main()
