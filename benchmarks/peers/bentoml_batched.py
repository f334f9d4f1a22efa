"""BentoML's adaptive batching as its documentation writes it: every default.

bentoml serve bentoml_batched:Digits --working-dir benchmarks/peers
"""

from __future__ import annotations

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service
class Digits:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    @bentoml.api(route="/infer", batchable=True)
    def infer(self, inputs: np.ndarray) -> np.ndarray:
        (out,) = self.session.run(None, {"pixels": inputs.astype(np.float32, copy=False)})
        return out
