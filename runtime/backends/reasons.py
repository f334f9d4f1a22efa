"""Why a library could not load a model, in a sentence: the operator and the node, not the stack.

The libraries' texts run over ten lines, with their own source files and C++ signatures; a text
of a form that is not known here is only shortened.
"""

from __future__ import annotations

import re
import textwrap

LONGEST = 240  # characters; a line of a plan's table takes about 100

_ORT_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_ORT_LOADING = re.compile(r"(?:Load model from .*? failed: ?)?(?:This is an invalid model\. )?")
_ORT_PLACE = re.compile(r"/\S+\.(?:cc|h|cpp|hpp):\d+ .*?\)(?: \[with [^\]]*\])? ")
_ORT_NO_OPERATOR = re.compile(r'In Node, \("(.*?)", (\w+), "(.*?)", .*No Op registered for')
_ORT_NO_FUNCTION = re.compile(r"Fatal error: (\S+?)\(-?\d+\) is not a registered function/op")

_OV_NO_RULE = re.compile(r"No conversion rule found for operations: (.+)")
_OV_FAILED = re.compile(
    r"^-- (?P<operator>\S+?)(?:-\d+)? with a message:\n(?P<lines>.*?)(?=\n\n|\n-- |\nSummary:|\Z)",
    re.MULTILINE | re.DOTALL,
)
_OV_NODE = re.compile(r"While validating ONNX node '<Node\(.*?\): (.*?)>'")
_OV_NOISE = ("Exception from src/", "Check '", "Summary:", "FrontEnd API failed", "While valid")


def onnxruntime_reason(error: Exception) -> str:
    """Return what onnxruntime's *error* says, as one sentence."""
    text = _ORT_CODE.sub("", " ".join(str(error).split()))
    text = _ORT_PLACE.sub("", _ORT_LOADING.sub("", text, count=1))
    if missing := _ORT_NO_OPERATOR.search(text):
        return _lacks(f"{missing[3]}.{missing[2]}".lstrip("."), node=missing[1])
    if missing := _ORT_NO_FUNCTION.search(text):
        return _lacks(missing[1].replace(":", "."))
    return _sentence(text)


def openvino_reason(error: Exception) -> str:
    """Return what OpenVINO's *error* says, as one sentence."""
    text = str(error)
    if missing := _OV_NO_RULE.search(text):
        operators = [re.sub(r"-\d+$", "", name.strip()) for name in missing[1].split(",")]
        return _lacks(", ".join(operators))
    if failed := _OV_FAILED.search(text):
        lines = failed["lines"].splitlines()
        node = _OV_NODE.search(failed["lines"])
        where = f"{failed['operator']}{f' (output {node[1]!r})' if node else ''}"
        return _sentence(f"{where}: {lines[-1]}")
    lines = [line.strip() for line in text.splitlines()]
    kept = [line for line in lines if line and not line.startswith(_OV_NOISE)]
    return _sentence(" ".join(kept or lines))


def _lacks(operators: str, node: str = "") -> str:
    return f"it lacks the operator {operators}{f' (node {node!r})' if node else ''}."


def _sentence(text: str) -> str:
    short = textwrap.shorten(text, LONGEST, placeholder=" ...")
    return short if short.endswith(".") else f"{short}."
