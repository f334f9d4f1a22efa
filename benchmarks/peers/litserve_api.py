"""LitServe as its documentation writes an API: one worker, every default.

python litserve_api.py PORT
"""

import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):
    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe reads hints
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, x: Any) -> Any:
        return self.session.run(None, {"pixels": x})[0]

    def encode_response(self, output: Any) -> dict[str, Any]:
        made = {"name": "logits", "shape": output.shape, "datatype": "FP32"}
        return {"outputs": [made | {"data": output.ravel().tolist()}]}


if __name__ == "__main__":
    litserve.LitServer(Digits(api_path="/infer"), accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False
    )
