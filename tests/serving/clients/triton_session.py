"""Run with the server's address and a file of digits: all that tritonclient can ask over HTTP."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_async
from tritonclient.utils import InferenceServerException

ADDRESS, DIGITS = sys.argv[1:]
with np.load(DIGITS) as data:
    PIXELS, LABELS = data["pixels"][:20].astype(np.float32), data["label"][:20]


def asked(binary: bool) -> list[triton.InferInput]:
    pixels = triton.InferInput("pixels", list(PIXELS.shape), "FP32")
    pixels.set_data_from_numpy(PIXELS, binary_data=binary)
    return [pixels]


def check(logits: np.ndarray) -> None:
    assert logits.shape == (20, 10)
    assert (logits.argmax(axis=1) == LABELS).mean() >= 0.9


def health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits")
    assert client.is_model_ready("digits", "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "scanflow-serve"
    assert client.get_model_metadata("digits")["inputs"][0]["shape"] == [-1, 64]
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states["digits"] == "READY"


def every_encoding(client: triton.InferenceServerClient) -> None:
    for binary_in in (True, False):
        for outputs in (
            None,
            [triton.InferRequestedOutput("logits", binary_data=True)],
            [triton.InferRequestedOutput("logits", binary_data=False)],
        ):
            for sent in (None, "gzip", "deflate"):
                for received in (None, "gzip", "deflate"):
                    result = client.infer(
                        "digits",
                        asked(binary_in),
                        request_id="mine",
                        outputs=outputs,
                        request_compression_algorithm=sent,
                        response_compression_algorithm=received,
                    )
                    check(result.as_numpy("logits"))
                    assert result.get_response()["id"] == "mine"


def refusal(
    client: triton.InferenceServerClient, model: str, inputs: list[triton.InferInput]
) -> str:
    try:
        client.infer(model, inputs)
    except InferenceServerException as error:
        return str(error)
    return "was answered"


def classes_and_errors(client: triton.InferenceServerClient) -> None:
    best = triton.InferRequestedOutput("logits", class_count=1)
    top = client.infer("digits", asked(True), outputs=[best], timeout=5_000_000).as_numpy("logits")
    found = [int(entry.decode().split(":")[1]) for entry in top[:, 0]]
    assert (np.array(found) == LABELS).mean() >= 0.9
    for model, inputs, says in (
        ("nothing", asked(True), "'nothing' is unknown"),
        ("digits", [triton.InferInput("pixels", [1, 64], "FP32")], "inputs[0].data must be a list"),
    ):
        assert says in refusal(client, model, inputs)
    before = client.get_inference_statistics("digits")["model_stats"][0]["inference_count"]
    client.async_infer("digits", asked(True)).get_result()
    after = client.get_inference_statistics("digits")["model_stats"][0]["inference_count"]
    assert after - before == 20


def repository(client: triton.InferenceServerClient) -> None:
    """Unload what the policy can do without, and load it again."""
    names = [entry["name"] for entry in client.get_model_repository_index()]
    models = [name for name in names if name in ("digits-mlp", "digits-cnn")]
    for name in models:
        client.load_model(name)
        assert client.is_model_ready(name)
    client.unload_model("digits-mlp")
    assert not client.is_model_ready("digits-mlp")
    client.load_model("digits-mlp")
    assert client.is_model_ready("digits-mlp")
    with pytest.raises(InferenceServerException, match="'nothing' is unknown"):
        client.load_model("nothing")
    check(client.infer("digits", asked(True), priority=1).as_numpy("logits"))


async def asynchronous() -> None:
    client = triton_async.InferenceServerClient(ADDRESS)
    results = await asyncio.gather(*(client.infer("digits", asked(True)) for _ in range(8)))
    for result in results:
        check(result.as_numpy("logits"))
    await client.close()


with triton.InferenceServerClient(ADDRESS, concurrency=2) as session:
    health_and_metadata(session)
    every_encoding(session)
    classes_and_errors(session)
    repository(session)
asyncio.run(asynchronous())
print("ok")
