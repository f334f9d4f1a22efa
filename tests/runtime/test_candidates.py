from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planning_worlds import host, policy

from scanflow_serve.runtime.candidates import (
    Listing,
    Stored,
    conversions,
    direct,
    failed,
    references_of,
    thread_counts,
    variants_of,
)
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow.graph import Slot

BOTH = {"onnxruntime": True, "openvino": True}
ARM = {"arch": "aarch64", "features": ("asimdhp", "fphp", "neon")}


def listed(machine=None, installed=None, stored=None, calibration=None, **variants):
    """Return id -> refusal code (or None) of the model cnn."""
    models = {"cnn": {"source": "cnn.onnx", **({"variants": variants} if variants else {})}}
    rules = policy(
        models=models,
        calibration=calibration,
        workflows={"classify": {"steps": [{"model": "cnn"}]}},
    )
    options = variants_of("cnn", rules, machine or host(1), installed or BOTH, stored or Stored())
    return {o.variant.id.removeprefix("cnn/"): o.refusal and o.refusal.code for o in options}


def test_default_is_fp32_on_the_installed_backends() -> None:
    assert listed() == {"onnxruntime-fp32x1": None, "openvino-fp32x1": None}


@pytest.mark.parametrize("feature", ["avx512_bf16", "amx_bf16"])
def test_bf16_is_tried_where_the_processor_computes_in_it(feature: str) -> None:
    found = listed(host(1, features=(feature,)))
    assert found["openvino-bf16x1"] is None
    assert "openvino-fp16x1" not in found
    assert "onnxruntime-bf16x1" not in found


def test_fp16_is_tried_on_arm_that_computes_in_it() -> None:
    assert listed(host(1, **ARM))["openvino-fp16x1"] is None


def test_precision_asked_for_but_not_there_is_listed_with_the_reason() -> None:
    found = listed(precisions=["fp32", "bf16", "fp16"])
    assert found["openvino-bf16x1"] == "unsupported"
    assert found["openvino-fp16x1"] == "unsupported"
    assert found["onnxruntime-bf16x1"] == "unsupported"
    assert found["onnxruntime-fp32x1"] is None


def test_int8_is_listed_where_it_was_converted_and_refused_where_it_was_not() -> None:
    converted = {
        ("onnxruntime", "int8"): None,
        ("openvino", "int8"): Refusal("verification", "answers differ"),
    }
    assert listed(precisions=["int8"], stored=Stored(converted=converted)) == {
        "onnxruntime-int8x1": None,
        "openvino-int8x1": "verification",
    }


def test_int8_that_nobody_tried_to_convert_is_unsupported() -> None:
    assert listed(precisions=["int8"], stored=Stored(converted={})) == {
        "onnxruntime-int8x1": "unsupported",
        "openvino-int8x1": "unsupported",
    }


def test_int8_is_listed_with_calibration_data() -> None:
    assert listed(calibration={"data": "rows.npz"})["openvino-int8x1"] is None
    assert not any("int8" in key for key in listed())


def test_file_that_is_int8_runs_as_it_stands() -> None:
    found = listed(stored=Stored(precision="int8"))
    assert found == {"onnxruntime-int8x1": None, "openvino-int8x1": None}


def converted(machine=None, stored=None, calibration=None, **variants):
    """Return the conversions of the model cnn."""
    models = {"cnn": {"source": "cnn.onnx", **({"variants": variants} if variants else {})}}
    rules = policy(models=models, calibration=calibration)
    return conversions("cnn", rules, machine or host(1), BOTH, stored or Stored())


@pytest.mark.parametrize("precision", ["w8", "w16"])
def test_weights_in_fewer_bits_are_made_for_each_backend_where_asked_for(precision: str) -> None:
    wanted = (("onnxruntime", precision), ("openvino", precision))
    assert converted(precisions=["fp32", precision]) == wanted
    assert listed(precisions=[precision]) == {
        f"onnxruntime-{precision}x1": None,
        f"openvino-{precision}x1": None,
    }
    assert converted() == ()


def test_fp16_is_a_file_for_onnxruntime_and_a_cast_for_openvino() -> None:
    assert converted(host(1, **ARM)) == (("onnxruntime", "fp16"),)
    found = listed(host(1, **ARM), precisions=["fp16"])
    assert found == {"onnxruntime-fp16x1": None, "openvino-fp16x1": None}


def test_fp16_is_not_made_for_a_processor_that_lacks_it_and_says_what_stores_it() -> None:
    assert converted(precisions=["fp16"]) == ()
    rules = policy(models={"cnn": {"source": "c", "variants": {"precisions": ["fp16"]}}})
    (reason, _) = (
        o.refusal.reason for o in variants_of("cnn", rules, host(1), BOTH, Stored()) if o.refusal
    )
    assert reason.endswith("none of asimdhp, fphp; w16 stores weights in it, and computes in fp32")


def test_fp16_for_an_accelerator_is_made_on_any_processor() -> None:
    cuda = host(1, accelerators=("onnxruntime:CUDAExecutionProvider",))
    assert converted(cuda, precisions=["fp16"]) == (("onnxruntime", "fp16"),)
    assert converted(cuda, precisions=["fp16"], devices=["CPU"]) == ()
    assert listed(cuda, backends=["onnxruntime"], precisions=["fp16"]) == {
        "onnxruntime-fp16x1": "unsupported",
        "onnxruntime-fp16@CUDAx1": None,
    }


def test_file_whose_weights_are_int8_runs_as_it_stands() -> None:
    found = listed(stored=Stored(precision="w8"))
    assert found == {"onnxruntime-w8x1": None, "openvino-w8x1": None}
    assert listed(stored=Stored(precision="w8"), precisions=["fp32"]) == {
        "onnxruntime-fp32x1": "unsupported",
        "openvino-fp32x1": "unsupported",
    }


def test_missing_backend_names_the_install_command() -> None:
    rules = policy()
    installed = {"onnxruntime": True, "openvino": False}
    options = variants_of("cnn", rules, host(1), installed, Stored())
    refusals = [o.refusal for o in options if o.variant.backend == "openvino"]
    assert [r.code for r in refusals] == ["not_installed"]
    assert "pip install 'scanflow-serve[openvino]'" in refusals[0].reason


def test_backend_of_a_later_version_is_refused() -> None:
    assert listed(backends=["torch"]) == {"torch-fp32x1": "not_built"}


def test_format_that_a_backend_does_not_load_is_refused() -> None:
    found = listed(stored=Stored(format="openvino"))
    assert found == {"onnxruntime-fp32x1": "unsupported", "openvino-fp32x1": None}


@pytest.mark.parametrize(
    ("cores", "counts"),
    [(0.5, (1,)), (1, (1,)), (2.9, (1, 2)), (6, (1, 2, 4, 6))],
)
def test_threads_searched_are_powers_of_two_and_the_grant(cores, counts) -> None:
    assert thread_counts(cores) == counts


@given(st.floats(0.01, 512))
def test_threads_never_exceed_the_grant(cores: float) -> None:
    counts = thread_counts(cores)
    assert counts[0] == 1
    assert counts[-1] <= max(1, cores)
    assert list(counts) == sorted(set(counts))


def test_threads_of_the_policy_replace_the_search_within_the_grant() -> None:
    found = listed(host(2), backends=["onnxruntime"], threads=[2, 8])
    assert found == {"onnxruntime-fp32x2": None, "onnxruntime-fp32x8": "unsupported"}


def test_reference_is_the_file_as_it_stands_on_onnxruntime_with_one_thread() -> None:
    options = variants_of("cnn", policy(), host(2, features=("amx_bf16",)), BOTH, Stored())
    references = references_of("cnn", options, BOTH, Stored())
    assert [v.id for v in references] == [
        "cnn/onnxruntime-fp32x1",
        "cnn/onnxruntime-fp32x2",
        "cnn/openvino-fp32x1",
        "cnn/openvino-fp32x2",
    ]


def test_reference_is_made_where_the_policy_allows_none() -> None:
    rules = policy(
        models={
            "cnn": {
                "source": "c.onnx",
                "variants": {"backends": ["openvino"], "precisions": ["bf16"]},
            },
            "mlp": {"source": "m.onnx"},
        }
    )
    options = variants_of("cnn", rules, host(1, features=("amx_bf16",)), BOTH, Stored())
    found = references_of("cnn", options, BOTH, Stored())
    assert found[0] == Variant("cnn", "onnxruntime", "fp32")


GPUS = ("nvidia", "onnxruntime:CUDAExecutionProvider", "openvino:GPU", "openvino:NPU")


def test_accelerators_of_the_host_are_tried_beside_the_cpu_without_a_search_for_threads() -> None:
    assert listed(host(2, accelerators=GPUS), threads=[2]) == {
        "onnxruntime-fp32x2": None,
        "onnxruntime-fp32@CUDAx1": None,
        "onnxruntime-fp16@CUDAx1": None,
        "openvino-fp32x2": None,
        "openvino-fp32@GPUx1": None,
        "openvino-fp16@GPUx1": None,
        "openvino-fp16@NPUx1": None,
    }


def test_accelerators_that_no_backend_drives_are_no_devices() -> None:
    others = ("coral", "nvidia", "onnxruntime:TensorrtExecutionProvider", "openvino:TOASTER")
    assert listed(host(1, accelerators=others)) == listed()


def test_two_gpus_are_told_apart() -> None:
    found = listed(host(1, accelerators=("openvino:GPU.0", "openvino:GPU.1")), devices=["GPU"])
    gpus = ["openvino-fp32@GPU.0x1", "openvino-fp16@GPU.0x1"]
    gpus += [name.replace("GPU.0", "GPU.1") for name in gpus]
    assert [name for name, code in found.items() if code is None] == gpus


def test_int8_file_runs_on_the_accelerators_that_compute_in_it() -> None:
    found = listed(host(1, accelerators=GPUS), stored=Stored(precision="int8"))
    assert [name for name in found if "@" in name] == ["openvino-int8@GPUx1", "openvino-int8@NPUx1"]


def test_policy_restricts_the_devices() -> None:
    found = listed(host(1, accelerators=GPUS), devices=["CUDA", "NPU"])
    assert found == {
        "onnxruntime-fp32@CUDAx1": None,
        "onnxruntime-fp16@CUDAx1": None,
        "openvino-fp16@NPUx1": None,
    }


def test_device_that_the_policy_asks_for_and_the_host_lacks_is_listed_with_the_reason() -> None:
    rules = policy(models={"cnn": {"source": "c", "variants": {"devices": ["CPU", "GPU"]}}})
    options = variants_of("cnn", rules, host(1), BOTH, Stored())
    refused = {o.variant.id: o.refusal.reason for o in options if o.refusal}
    assert refused == {
        "cnn/openvino-fp32@GPUx1": "openvino finds no GPU on this host, only CPU",
    }


def test_backend_that_runs_on_none_of_the_devices_asked_for_is_listed() -> None:
    found = listed(host(1, accelerators=GPUS), backends=["onnxruntime"], devices=["NPU"])
    assert found == {"onnxruntime-fp32@NPUx1": "unsupported"}


def test_precision_that_a_device_lacks_is_listed_when_asked_for() -> None:
    found = listed(host(1, accelerators=GPUS), devices=["GPU"], precisions=["fp16", "bf16"])
    assert found["openvino-fp16@GPUx1"] is None
    assert found["openvino-bf16@GPUx1"] == "unsupported"


def test_reference_is_never_on_an_accelerator() -> None:
    rules = policy(models={"cnn": {"source": "c", "variants": {"devices": ["GPU"]}}})
    options = variants_of("cnn", rules, host(1, accelerators=GPUS), BOTH, Stored())
    found = references_of("cnn", options, BOTH, Stored())
    assert {variant.device for variant in found} == {"CPU"}


def test_direct_sees_every_model_before_the_second_backend() -> None:
    options = {n: variants_of(n, policy(), host(1), BOTH, Stored()) for n in ("mlp", "cnn")}
    listing = direct({"classify": [Slot("s", ("mlp", "cnn"))]}, options)
    assert [c.variant_id for c in listing.candidates] == [
        "mlp/onnxruntime-fp32x1",
        "cnn/onnxruntime-fp32x1",
        "mlp/openvino-fp32x1",
        "cnn/openvino-fp32x1",
    ]


def test_run_without_a_slot_is_one_candidate() -> None:
    assert direct({"C1": []}, {}) == Listing((Candidate("C1", ()),), {})


def test_unusable_model_has_all_its_variants_refused() -> None:
    options = variants_of("cnn", policy(), host(1), {"onnxruntime": True}, Stored())
    reasons = [o.refusal.reason for o in failed(options, "cnn.onnx: is corrupt.")]
    assert reasons[0] == "cnn.onnx: is corrupt."
    assert "pip install" in reasons[1]
