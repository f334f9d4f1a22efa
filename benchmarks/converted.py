"""A subject as a policy's model, and every variant that the converters make of it."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
import zoo
from subjects import CALIBRATED, Data, Subject

from scanflow_serve.converters import runner
from scanflow_serve.converters.conversion import Context, Options
from scanflow_serve.converters.origins.kinds import find_origin
from scanflow_serve.converters.origins.origin import Origin
from scanflow_serve.converters.routes import Form, Step, installed_tools, route
from scanflow_serve.converters.sources import file_artifact
from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.policies.schema import CONSENT
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.candidates import NATIVE
from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.tensors import Tensors

INPUT = "x"
EXPORTED = Form("onnx", "fp32")


@dataclass(frozen=True, slots=True)
class Goal:
    """A backend, the precision that it is to execute in, and the file that it needs for that."""

    backend: str
    precision: str
    form: Form


_IR = Form("openvino", "fp32")
GOALS = (
    Goal("onnxruntime", "fp32", Form("onnx", "fp32", clean=True)),
    Goal("onnxruntime", "fp16", Form("onnx", "fp16", clean=True)),
    Goal("onnxruntime", "w16", Form("onnx", "w16")),
    Goal("onnxruntime", "w8", Form("onnx", "w8")),
    Goal("onnxruntime", "int8", Form("onnx", "int8")),
    Goal("openvino", "fp32", _IR),
    Goal("openvino", "bf16", _IR),
    Goal("openvino", "fp16", _IR),
    Goal("openvino", "w16", Form("openvino", "w16")),
    Goal("openvino", "w8", Form("openvino", "w8")),
    Goal("openvino", "int8", Form("openvino", "int8")),
)


@dataclass(frozen=True, slots=True)
class Source:
    """A subject, written down as a person would: a policy, weights and data beside it.

    Attributes:
        exported: The ONNX file that all conversions start from.
        reference: What the original answers to the rows that are judged.
    """

    subject: Subject
    policy_file: PolicyFile
    data: Data
    exported: Path
    reference: Tensors

    @property
    def weights(self) -> Path:
        """Return the file that holds what was trained."""
        return self.policy_file.folder / self.subject.weights

    @property
    def max_accuracy_drop(self) -> float:
        """Return what the policy allows."""
        return self.policy_file.policy.models[self.subject.key].max_accuracy_drop


def write(subject: Subject, folder: Path) -> Source:
    """Return *subject*, fitted, exported and run as it is; all in *folder*, which is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = subject.data()
    subject.write(subject, folder, data.fitted)
    np.savez(folder / "calibration.npz", **{INPUT: data.fitted.inputs[:CALIBRATED]})
    np.savez(folder / "validation.npz", **{INPUT: data.judged.inputs, "label": data.judged.classes})
    shutil.copy(str(zoo.__file__), folder)
    (folder / "policy.yaml").write_text(yaml.safe_dump(_policy(subject, data), sort_keys=False))
    policy_file = load_policy(folder / "policy.yaml")
    origin: Origin = find_origin(subject.key, policy_file.policy.models[subject.key], policy_file)
    exported = origin.export(folder / "exported").path
    reference = origin.reference({INPUT: data.judged.inputs})
    return Source(subject, policy_file, data, exported, reference)


@dataclass(frozen=True, slots=True)
class Variant:
    """What the converters made for a goal, in how many seconds."""

    goal: Goal
    made: Artifact | Refusal
    convert_s: float


def variants(source: Source, host: HostProfile) -> list[Variant]:
    """Return what the converters make of *source* for each goal that *host* computes in.

    Steps run in child processes: as many at once as there are cores.
    """
    features = frozenset(host.cpu.features)
    # On every model the same would be said of the others.
    goals = [g for g in GOALS if g.precision not in NATIVE or features & set(NATIVE[g.precision])]
    forms = dict.fromkeys(goal.form for goal in goals)
    with ThreadPoolExecutor(max(1, int(host.cpu.cores))) as pool:
        made = dict(zip(forms, pool.map(lambda f: _make(source, f, features), forms), strict=True))
    return [Variant(goal, *made[goal.form]) for goal in goals]


def _make(source: Source, form: Form, features: frozenset[str]) -> tuple[Artifact | Refusal, float]:
    start = time.perf_counter()
    steps = route(EXPORTED, form, installed=installed_tools(), data=True, features=features)
    made = steps if isinstance(steps, Refusal) else _convert(source, form, steps, features)
    return made, time.perf_counter() - start


def _convert(
    source: Source, form: Form, steps: tuple[Step, ...], features: frozenset[str]
) -> Artifact | Refusal:
    root = source.policy_file.folder
    folder = root / f"{form.format}-{form.precision}"
    folder.mkdir()
    rows = {INPUT: source.data.fitted.inputs[:CALIBRATED]}
    context = Context(rows, features, Options(samples=CALIBRATED))
    try:
        path = runner.convert(steps, source.exported, folder, context)
        made = file_artifact(source.subject.key, path, folder)
        return replace(made, precision=form.precision)  # which a file of fewer bits does not say
    except ScanflowError as error:
        return Refusal("unsupported", str(error).replace(f"{root}/", ""))


def _policy(subject: Subject, data: Data) -> dict[str, object]:
    inputs = data.judged.inputs
    shape = [-1, *inputs.shape[1:]]
    code = {"source": f"torch:zoo:{subject.factory}", "weights": subject.weights}
    return {
        "apiVersion": "scanflow/v1",
        "name": f"bench-{subject.key}",
        "models": {
            subject.key: {
                **(code if subject.factory else {"source": subject.weights}),
                # skops takes a tree's memory for a risk. This one was grown a moment ago.
                **({} if subject.factory else {"trust_pickle": CONSENT}),
                "inputs": {INPUT: {"shape": shape, "dtype": str(inputs.dtype)}},
                # Half a point; of 200 made-up rows that is one, so two are allowed there.
                "max_accuracy_drop": 0.005 if subject.digits else 0.01,
            }
        },
        "calibration": {"data": "calibration.npz", "samples": CALIBRATED},
        "validation": {"data": "validation.npz", "target": "label", "metric": "accuracy"},
        "workflows": {"classify": {"steps": [{"model": subject.key}]}},
        "targets": [{"run": "classify"}],
        "objective": {"minimize": "latency_p95_ms"},
    }
