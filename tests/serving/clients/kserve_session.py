"""Run with the server's address and a file of digits: KServe's SDK, JSON and binary."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

ADDRESS, DIGITS = sys.argv[1:]
URL = f"http://{ADDRESS}"
with np.load(DIGITS) as data:
    PIXELS, LABELS = data["pixels"][:20].astype(np.float32), data["label"][:20]


async def main() -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=30))
    assert await client.is_server_live(URL)
    assert await client.is_server_ready(URL)
    assert await client.is_model_ready(URL, "digits")
    for binary in (True, False):
        pixels = InferInput("pixels", list(PIXELS.shape), "FP32")
        pixels.set_data_from_numpy(PIXELS, binary_data=binary)
        reply = await client.infer(URL, InferRequest("digits", [pixels]), model_name="digits")
        logits = reply.outputs[0].as_numpy()
        assert logits.shape == (20, 10)
        assert (logits.argmax(axis=1) == LABELS).mean() >= 0.9
    await client.close()


asyncio.run(main())
print("ok")
