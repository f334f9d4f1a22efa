"""BentoML as its tutorial writes it: a typed endpoint, every default.

bentoml serve bentoml_typed:Digits --working-dir benchmarks/peers
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime
from pydantic import BaseModel


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


@bentoml.service
class Digits:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    @bentoml.api(route="/infer")
    def infer(self, inputs: list[Tensor]) -> dict[str, Any]:
        (tensor,) = inputs
        rows = np.array(tensor.data, np.float32).reshape(tensor.shape)
        (out,) = self.session.run(None, {tensor.name: rows})
        made = {"name": "logits", "shape": out.shape, "datatype": "FP32"}
        return {"outputs": [made | {"data": out.ravel().tolist()}]}
