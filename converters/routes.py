"""The conversions there are, as one table, and the shortest way through it.

A form is a format, a precision and whether the graph was cleaned; a step says what it requires
and what it ensures. The table is read without importing a converter.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from scanflow_serve.policies.errors import MissingExtraError
from scanflow_serve.runtime.artifacts import Format
from scanflow_serve.runtime.measurements import Refusal


@dataclass(frozen=True, slots=True)
class Form:
    """What a model file is, as far as a step must know.

    Attributes:
        precision: Of the stored weights and graph: fp32, fp16, bf16, int8 (weights and
            activations); w16 or w8: only the weights are stored in fp16 or int8, and computed in
            fp32.
        clean: Constants are folded, shapes are inferred, and nothing but the model is left.
    """

    format: Format
    precision: str
    clean: bool = False

    def __str__(self) -> str:
        """Return the form for people.

        >>> str(Form("onnx", "fp32", clean=True))
        'clean onnx fp32'
        """
        return f"{'clean ' if self.clean else ''}{self.format} {self.precision}"

    def satisfies(self, wanted: Form) -> bool:
        """Return whether a file of this form may stand where *wanted* is asked for."""
        same = (self.format, self.precision) == (wanted.format, wanted.precision)
        return same and (self.clean or not wanted.clean)


@dataclass(frozen=True, slots=True)
class Step:
    """One conversion.

    Attributes:
        name: As manifests record it.
        requires: The form that it takes.
        ensures: The form that it makes.
        function: ``module:function``, which is called as `conversion.Convert`.
        tools: Import names of the libraries that it uses.
        data: It needs calibration rows.
        features: It is of use only where the processor has one of these, or the host one of
            these devices; empty: anywhere.
        extra: The extra of scanflow-serve that installs `tools`.
    """

    name: str
    requires: Form
    ensures: Form
    function: str
    tools: tuple[str, ...]
    data: bool = False
    features: tuple[str, ...] = ()
    extra: str = "convert"


_STEPS = "scanflow_serve.converters.steps"
_RAW, _CLEAN = Form("onnx", "fp32"), Form("onnx", "fp32", clean=True)
_RAW16, _CLEAN16 = Form("onnx", "fp16"), Form("onnx", "fp16", clean=True)
_ONNX8, _ONNXW8, _ONNXW16 = Form("onnx", "int8"), Form("onnx", "w8"), Form("onnx", "w16")
_IR, _IR8 = Form("openvino", "fp32"), Form("openvino", "int8")
_IRW8, _IRW16 = Form("openvino", "w8"), Form("openvino", "w16")
_READER = ("onnx", "openvino")

_CLEANER = (f"{_STEPS}.cleaning:clean", ("onnx", "onnxslim"))
_PTQ = (f"{_STEPS}.openvino_int8:quantize", (*_READER, "nncf"))
_COMPRESSION = (f"{_STEPS}.openvino_int8:compress_weights", (*_READER, "nncf"))
_HALF = (f"{_STEPS}.openvino_ir:convert_half", _READER)
_WEIGHTS = f"{_STEPS}.onnx_weights"
_STATIC = (f"{_STEPS}.onnx_int8:quantize_static", ("onnx", "onnxruntime"))
_DYNAMIC = (f"{_STEPS}.onnx_int8:quantize_dynamic", ("onnx", "onnxruntime"))

# Of several ways of the same length, the one whose step stands first is taken: static
# quantisation before dynamic. There is no way from ONNX int8 to IR: OpenVINO loads the file, and
# quantises better from fp32. There is no IR in fp16 either: OpenVINO computes in it whatever the
# file holds.
STEPS: tuple[Step, ...] = (
    Step("clean", _RAW, _CLEAN, *_CLEANER),
    Step("clean-fp16", _RAW16, _CLEAN16, *_CLEANER),
    Step("openvino", _RAW, _IR, f"{_STEPS}.openvino_ir:convert", _READER),
    Step("openvino-fp16-w16", _RAW16, _IRW16, f"{_STEPS}.openvino_ir:convert", _READER),
    Step("openvino-w16", _RAW, _IRW16, *_HALF),
    Step("openvino-fp32-w16", _IR, _IRW16, *_HALF),
    Step("openvino-int8", _RAW, _IR8, *_PTQ, data=True),
    Step("openvino-fp32-int8", _IR, _IR8, *_PTQ, data=True),
    Step("openvino-w8", _RAW, _IRW8, *_COMPRESSION),
    Step("openvino-fp32-w8", _IR, _IRW8, *_COMPRESSION),
    # On other processors ONNX Runtime casts to fp32 and back at each node.
    Step(
        "onnx-fp16",
        _CLEAN,
        _CLEAN16,
        f"{_STEPS}.onnx_fp16:convert",
        ("onnx", "onnxruntime"),
        features=("asimdhp", "fphp", "CUDA", "ROCM"),
    ),
    Step("onnx-int8-static", _CLEAN, _ONNX8, *_STATIC, data=True),
    Step("onnx-int8-dynamic", _CLEAN, _ONNX8, *_DYNAMIC),
    Step("onnx-w8", _CLEAN, _ONNXW8, f"{_WEIGHTS}:store_int8", ("onnx",)),
    Step("onnx-w16", _CLEAN, _ONNXW16, f"{_WEIGHTS}:store_half", ("onnx",)),
)


def installed_tools() -> frozenset[str]:
    """Return the import names of the steps' libraries that are installed."""
    names = {tool for step in STEPS for tool in step.tools}
    return frozenset(name for name in names if importlib.util.find_spec(name) is not None)


def versions(steps: Collection[Step]) -> dict[str, str]:
    """Return what *steps* depend on: tool name -> installed version, ours among them."""
    names = {"scanflow-serve", *(tool for step in steps for tool in step.tools)}
    return {name: _version(name) for name in sorted(names)}


def route(
    start: Form,
    goal: Form,
    *,
    installed: Collection[str],
    data: bool,
    features: Collection[str],
) -> tuple[Step, ...] | Refusal:
    """Return the fewest steps from *start* to *goal*, none if it is there already.

    Args:
        installed: `installed_tools` of the machine that converts.
        data: There are calibration rows.
        features: ISA features of the processor that is to run the result, as in `Cpu.features`,
            and the host's devices, as variants have them.

    Returns:
        The steps, or why there is no way: the one thing that is missing, where it is one thing.
    """
    usable = [step for step in STEPS if _needs(step.features, features)]
    at_hand = [step for step in usable if set(step.tools) <= set(installed)]
    fed = [step for step in at_hand if data or not step.data]
    for steps in (fed, at_hand, usable, STEPS):
        found = _shortest(start, goal, steps)
        if found is None:
            continue
        if steps is fed:
            return found
        if steps is at_hand:
            return _unsupported(
                f"{goal} must be calibrated on rows, got none. Name them in the policy under "
                "calibration"
            )
        if steps is usable:
            missing = [step for step in found if not set(step.tools) <= set(installed)]
            return _not_installed(missing, installed)
        named = ", ".join(next(step.features for step in found if step.features))
        return _unsupported(f"this processor does not compute in {goal.precision}: none of {named}")
    return _unsupported(f"no conversion leads from {start} to {goal}")


def _version(name: str) -> str:
    """Return the version of a distribution, or of the one that brings the import *name*."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:  # onnxruntime-gpu brings onnxruntime
        brought = importlib.metadata.packages_distributions().get(name)
        return importlib.metadata.version(brought[0]) if brought else ""


def _needs(wanted: Collection[str], features: Collection[str]) -> bool:
    return not wanted or bool(set(wanted) & set(features))


def _shortest(start: Form, goal: Form, steps: Collection[Step]) -> tuple[Step, ...] | None:
    """Return the first of the shortest ways, breadth first in the order of *steps*."""
    ways: deque[tuple[Form, tuple[Step, ...]]] = deque([(start, ())])
    seen = {start}
    while ways:
        form, way = ways.popleft()
        if form.satisfies(goal):
            return way
        for step in steps:
            made = step.ensures
            if form.satisfies(step.requires) and made not in seen:
                seen.add(made)
                ways.append((made, (*way, step)))
    return None


def _not_installed(steps: Collection[Step], installed: Collection[str]) -> Refusal:
    tools = sorted({tool for step in steps for tool in step.tools} - set(installed))
    extra = next(step.extra for step in steps)
    return Refusal("not_installed", str(MissingExtraError(" and ".join(tools), extra)))


def _unsupported(reason: str) -> Refusal:
    return Refusal("unsupported", f"{reason}.")
