"""MLServer with a custom runtime, as its documentation writes one.

mlserver start FOLDER, with settings.json and model-settings.json in it.
"""

import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensor = payload.inputs[0]
        rows = NumpyCodec.decode_input(tensor)
        (out,) = self.session.run(None, {tensor.name: rows.astype(np.float32, copy=False)})
        outputs = [NumpyCodec.encode_output("logits", out)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
