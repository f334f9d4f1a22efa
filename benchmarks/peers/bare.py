"""The floor: pure ASGI, orjson and ONNX Runtime, nothing checked, nothing recorded.

uvicorn bare:app --app-dir benchmarks/peers
"""

import os
from typing import Any

import numpy as np
import onnxruntime
import orjson

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["method"] == "POST":
        tensor = orjson.loads(body)["inputs"][0]
        rows = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        (out,) = session.run(None, {tensor["name"]: rows})
        made = {"name": "logits", "shape": out.shape, "datatype": "FP32", "data": out.ravel()}
        reply = orjson.dumps({"outputs": [made]}, option=orjson.OPT_SERIALIZE_NUMPY)
    else:
        reply = b"{}"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})
