from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from scanflow_serve.converters.routes import STEPS, Form, Step, installed_tools, route, versions
from scanflow_serve.runtime.artifacts import Format
from scanflow_serve.runtime.measurements import Refusal

ALL_TOOLS = frozenset({"onnx", "onnxslim", "onnxruntime", "openvino", "nncf"})
ARM = frozenset({"neon", "asimd", "asimddp", "asimdhp", "fphp"})
X86 = frozenset({"avx2", "avx512_vnni"})
ONNX = Form("onnx", "fp32")


def names(found: tuple[Step, ...] | Refusal) -> list[str]:
    assert not isinstance(found, Refusal), found
    return [step.name for step in found]


@pytest.mark.parametrize(
    ("goal", "steps"),
    [
        (Form("onnx", "fp32"), []),
        (Form("onnx", "fp32", clean=True), ["clean"]),
        (Form("onnx", "fp16"), ["clean", "onnx-fp16"]),
        (Form("onnx", "int8"), ["clean", "onnx-int8-static"]),
        (Form("openvino", "fp32"), ["openvino"]),
        (Form("onnx", "w8"), ["clean", "onnx-w8"]),
        (Form("onnx", "w16"), ["clean", "onnx-w16"]),
        (Form("openvino", "w16"), ["openvino-w16"]),
        (Form("openvino", "int8"), ["openvino-int8"]),
        (Form("openvino", "w8"), ["openvino-w8"]),
    ],
)
def test_shortest_way_is_taken(goal: Form, steps: list[str]) -> None:
    found = route(ONNX, goal, installed=ALL_TOOLS, data=True, features=ARM)
    assert names(found) == steps


def test_ways_join_where_they_fit() -> None:
    for start, goal in ((ONNX, Form("openvino", "int8")), (Form("openvino", "fp32"), None)):
        for step in route(
            start,
            goal or Form("openvino", "w16"),
            installed=ALL_TOOLS,
            data=True,
            features=ARM,
        ):
            assert isinstance(step, Step)
            assert start.satisfies(step.requires)
            start = step.ensures


def test_clean_file_may_stand_for_any_but_not_the_other_way_round() -> None:
    clean = Form("onnx", "fp32", clean=True)
    assert clean.satisfies(ONNX)
    assert not ONNX.satisfies(clean)
    found = route(clean, Form("onnx", "int8"), installed=ALL_TOOLS, data=True, features=X86)
    assert names(found) == ["onnx-int8-static"]


def test_without_rows_int8_for_onnx_is_dynamic() -> None:
    found = route(ONNX, Form("onnx", "int8"), installed=ALL_TOOLS, data=False, features=X86)
    assert names(found) == ["clean", "onnx-int8-dynamic"]


def test_without_rows_int8_for_openvino_is_refused_and_says_what_to_do() -> None:
    found = route(ONNX, Form("openvino", "int8"), installed=ALL_TOOLS, data=False, features=X86)
    assert found == Refusal(
        "unsupported",
        "openvino int8 must be calibrated on rows, got none. Name them in the policy under "
        "calibration.",
    )


def test_missing_library_is_named_with_the_command_that_installs_it() -> None:
    found = route(
        ONNX,
        Form("openvino", "int8"),
        installed=ALL_TOOLS - {"nncf"},
        data=True,
        features=X86,
    )
    assert found == Refusal(
        "not_installed", "nncf is not installed. Run: pip install 'scanflow-serve[convert]'."
    )


def test_fp16_for_onnx_needs_a_processor_that_computes_in_it() -> None:
    found = route(ONNX, Form("onnx", "fp16"), installed=ALL_TOOLS, data=True, features=X86)
    assert isinstance(found, Refusal)
    assert found.reason.startswith("this processor does not compute in fp16: none of asimdhp")


def test_accelerator_that_computes_in_fp16_is_reason_enough_to_make_it() -> None:
    goal, features = Form("onnx", "fp16"), X86 | {"CUDA"}
    assert names(route(ONNX, goal, installed=ALL_TOOLS, data=False, features=features)) == [
        "clean",
        "onnx-fp16",
    ]


@pytest.mark.parametrize("precision", ["w8", "w16"])
@pytest.mark.parametrize("format_", ["onnx", "openvino"])
def test_weights_alone_need_neither_rows_nor_arithmetic(format_: Format, precision: str) -> None:
    found = route(
        ONNX, Form(format_, precision), installed=ALL_TOOLS, data=False, features=frozenset()
    )
    assert names(found)[-1] == f"{format_}-{precision}"


def test_int8_file_is_not_made_into_another_precision() -> None:
    found = route(
        Form("onnx", "int8"), Form("onnx", "fp32"), installed=ALL_TOOLS, data=True, features=X86
    )
    assert found == Refusal("unsupported", "no conversion leads from onnx int8 to onnx fp32.")


def test_table_has_no_step_that_leads_nowhere_or_is_named_twice() -> None:
    assert len({step.name for step in STEPS}) == len(STEPS)
    for step in STEPS:
        assert not step.requires.satisfies(step.ensures), step.name


def test_every_step_names_a_function_that_exists() -> None:
    code = (
        "import importlib\n"
        "from scanflow_serve.converters.routes import STEPS\n"
        "for step in STEPS:\n"
        "    module, name = step.function.split(':')\n"
        "    print(step.name, callable(getattr(importlib.import_module(module), name)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{step.name} True" for step in STEPS]


def test_table_is_read_without_importing_a_converter() -> None:
    code = "import scanflow_serve.converters.runner, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "scanflow_serve.converters.routes" in loaded
    assert not loaded & (ALL_TOOLS | {"torch", "scanflow_serve.converters.steps"})


def test_tools_of_this_machine_are_those_of_the_table() -> None:
    assert installed_tools() == ALL_TOOLS


def test_versions_are_those_of_the_tools_and_of_ours() -> None:
    found = route(ONNX, Form("openvino", "int8"), installed=ALL_TOOLS, data=True, features=X86)
    assert not isinstance(found, Refusal)
    told = versions(found)
    assert list(told) == ["nncf", "onnx", "openvino", "scanflow-serve"]
    assert told["onnx"] == importlib.metadata.version("onnx")
