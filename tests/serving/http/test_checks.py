from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checks_worlds import digits, inverted, stream

from scanflow_serve.serving import environment

DRIFT = """
checks:
  - drift:
      {method: confidence, reference: data/digits-train.npz, members: [], expected_run_length: 300}
"""


@pytest.fixture
def watched(serve: Any, tmp_path: Path) -> Any:
    """The application with a drift check on how sure a model of digits is."""
    pixels, labels = digits("train")
    means = np.stack([pixels[labels == each].mean(axis=0) for each in range(10)])

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        far = ((inputs["pixels"][:, None, :] - means) ** 2).sum(axis=2)
        return {"logits": (-0.01 * far).astype(np.float32)}

    return serve(DRIFT, environ={environment.STATE: str(tmp_path)}, run=run)


def until(condition: Callable[[], Any]) -> Any:
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("never came true")


def armed(client: Any) -> bool:
    return bool(client.get("/checks").json()["checks"][0]["phase"] == "armed")


def drifted(client: Any) -> Any:
    until(lambda: armed(client))
    for row in inverted(stream(1, 30)):
        reply = client.post("/predict", json={"inputs": [row.tolist()]})
        assert reply.status_code == 200
    return until(lambda: client.get("/checks").json()["state"] == "alarm")


def test_policy_without_checks_has_none(serve: Any) -> None:
    client = serve()
    assert client.get("/checks").json() == {"state": "off", "checks": []}
    assert client.get("/checks/drift").status_code == 404


def test_drifted_stream_raises_an_alarm_that_names_its_cause(watched: Any) -> None:
    drifted(watched)
    check = watched.get("/checks/drift").json()
    assert {"name", "type", "phase", "state", "score", "threshold", "p_val", "since"} <= set(check)
    assert (check["type"], check["state"]) == ("drift", "alarm")
    assert check["evidence"]["detector"] == "confidence"
    assert len(check["evidence"]["rows"]) > 0
    assert check["evidence"]["features"][0]["before"]


def test_history_has_points_against_the_threshold(watched: Any) -> None:
    drifted(watched)
    history = watched.get("/checks/drift/history").json()
    assert history["threshold"] == 300
    assert {"at", "rows", "score", "p_val", "state"} == set(history["points"][0])


def test_alarm_is_acknowledged_by_a_person_with_a_reason(watched: Any) -> None:
    drifted(watched)
    refused = watched.post("/checks/drift/ack", json={"who": "ann"})
    assert refused.status_code == 400
    assert "reason must be a text" in refused.json()["detail"]
    check = watched.post("/checks/drift/ack", json={"who": "ann", "reason": "lens"}).json()
    assert check["state"] == "acknowledged"
    assert check["acknowledged"]["who"] == "ann"
    again = watched.post("/checks/drift/ack", json={"reason": "lens"})
    assert again.status_code == 409
    assert "must be alarm" in again.json()["detail"]


def test_rebase_collects_a_new_reference(watched: Any) -> None:
    drifted(watched)
    check = watched.post("/checks/drift/rebase", json={"reason": "new lens"}).json()
    assert (check["phase"], check["state"]) == ("collecting", "off")


def test_unknown_check_is_404_and_names_the_known(watched: Any) -> None:
    reply = watched.get("/checks/typo")
    assert reply.status_code == 404
    assert "Configured: drift" in reply.json()["detail"]


def test_metrics_show_the_state_of_each_check(watched: Any) -> None:
    drifted(watched)
    text = watched.get("/metrics").text
    assert 'scanflow_check_state{check="drift",state="alarm",type="drift"} 1.0' in text
    assert "scanflow_checks_run_length 300.0" in text
    assert "scanflow_tap_dropped_rows_total 0.0" in text


def test_only_points_later_than_a_known_one_are_told(watched: Any) -> None:
    drifted(watched)
    points = watched.get("/checks/drift/history").json()["points"]
    assert points
    since = watched.get(f"/checks/drift/history?after={points[0]['at']}").json()["points"]
    assert since[: len(points) - 1] == points[1:]
    assert watched.get("/checks/drift/history?after=2999").json()["points"] == []
