from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanflow_serve.runtime.variants import Candidate, Variant

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)
variants = st.builds(
    Variant,
    model=names,
    backend=st.sampled_from(["onnxruntime", "openvino", "torch"]),
    precision=st.sampled_from(["fp32", "fp16", "bf16", "int8"]),
    device=st.sampled_from(["CPU", "GPU", "GPU.0", "NPU"]),
    threads=st.integers(1, 512),
)
runs = st.lists(names, min_size=1, max_size=3).map(">".join) | names.map("model:{}".format)


@given(st.builds(Candidate, run=runs, variants=st.lists(variants, max_size=3).map(tuple)))
def test_id_and_json_give_the_candidate_back(candidate: Candidate) -> None:
    assert Candidate.from_id(candidate.id) == candidate
    assert Candidate.from_json(candidate.to_json()) == candidate


@pytest.mark.parametrize("text", ["", "mlp", "mlp/onnxruntime-fp32", "classify:mlp/fp32x1", ":"])
def test_text_that_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must read"):
        Candidate.from_id(text)
