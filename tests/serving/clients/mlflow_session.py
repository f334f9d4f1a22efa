"""Run with the server's address and a file of digits: MLflow's own scoring client."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

ADDRESS, DIGITS = sys.argv[1:]
with np.load(DIGITS) as data:
    PIXELS, LABELS = data["pixels"][:20].astype(np.float32), data["label"][:20]

host, _, port = ADDRESS.rpartition(":")
client = ScoringServerClient(host, port)
client.wait_server_ready()
assert client.get_version()
for given in (PIXELS, PIXELS.tolist(), pd.DataFrame(PIXELS.astype(float))):
    logits = np.array(client.invoke(given)["predictions"])
    assert logits.shape == (20, 10)
    assert (logits.argmax(axis=1) == LABELS).mean() >= 0.9
answer = client.invoke(np.repeat(PIXELS, 5, axis=0))
assert len(set(answer["scanflow_prediction_ids"])) == len(answer.get_predictions()) == 100
refused = ""
try:
    client.invoke(PIXELS[:, :5])
except Exception as error:  # what MLflow's client raises
    refused = str(error)
assert "must have shape [-1, 64]" in refused, refused
print("ok")
