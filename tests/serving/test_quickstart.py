"""What the quickstart ships is what its script makes, and creating it never harms a folder."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.policies.loader import load_policy
from scanflow_serve.serving import quickstart
from scanflow_serve.serving.quickstart import create

SHIPPED = quickstart.SHIPPED
MANIFEST: dict[str, Any] = json.loads((SHIPPED / "manifest.json").read_text())
MODELS = sorted(MANIFEST["accuracy"])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def accuracy(model: Path, data: Path) -> float:
    session = onnxruntime.InferenceSession(model)
    rows = np.load(data)
    (logits,) = session.run(["logits"], {"pixels": rows["pixels"]})
    return float(np.mean(np.argmax(logits, axis=1) == rows["label"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create(tmp_path / "digits")
    return tmp_path / "digits"


def test_shipped_files_are_those_that_the_present_script_made() -> None:
    assert digest(SHIPPED / "train.py") == MANIFEST["script"], "run train.py again"
    assert {name: digest(SHIPPED / name) for name in MANIFEST["files"]} == MANIFEST["files"]


@pytest.mark.parametrize("part", ["validation", "test"])
@pytest.mark.parametrize("model", MODELS)
def test_accuracy_is_as_recorded(model: str, part: str) -> None:
    measured = accuracy(SHIPPED / f"models/{model}.onnx", SHIPPED / f"data/digits-{part}.npz")
    assert measured == pytest.approx(MANIFEST["accuracy"][model][part], abs=5e-5)


def test_no_row_serves_two_purposes() -> None:
    parts = [
        {row.tobytes() for row in np.load(path)["pixels"]}
        for path in sorted((SHIPPED / "data").iterdir())
    ]
    assert sum(len(part) for part in parts) == len(set().union(*parts)) == 1797


def test_more_accurate_models_are_larger() -> None:
    by_accuracy = sorted(MODELS, key=lambda name: MANIFEST["accuracy"][name]["validation"])
    sizes = [(SHIPPED / f"models/{name}.onnx").stat().st_size for name in by_accuracy]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 20 * sizes[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("rows", [1, 7])
def test_models_take_any_batch(model: str, rows: int) -> None:
    session = onnxruntime.InferenceSession(SHIPPED / f"models/{model}.onnx")
    (logits,) = session.run(None, {"pixels": np.zeros((rows, 64), np.float32)})
    assert np.shape(logits) == (rows, 10)


@pytest.mark.parametrize("digit", range(10))
def test_images_read_as_their_names_say(digit: int) -> None:
    grey = np.asarray(Image.open(SHIPPED / f"images/{digit}.png"), np.float32)
    session = onnxruntime.InferenceSession(SHIPPED / "models/digits-linear.onnx")
    (logits,) = session.run(None, {"pixels": grey.reshape(1, 64) * (16 / 255)})
    assert int(np.argmax(logits)) == digit


@pytest.mark.slow
def test_retraining_gives_the_recorded_accuracies(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="extra quickstart")
    command = [sys.executable, "-m", "scanflow_serve.serving.quickstart.train"]
    subprocess.run([*command, "--folder", str(tmp_path)], check=True, capture_output=True)
    again = json.loads((tmp_path / "manifest.json").read_text())
    for name, recorded in MANIFEST["accuracy"].items():  # the last bits differ between processors
        assert again["accuracy"][name] == pytest.approx(recorded, abs=0.01), name


def test_folder_holds_a_policy_that_loads(folder: Path) -> None:
    policy = load_policy(folder / "policy.yaml").policy
    assert sorted(policy.models) == MODELS
    assert policy.serve.image is not None


def test_readme_of_the_folder_states_the_recorded_accuracies(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    for name, figures in MANIFEST["accuracy"].items():
        assert f"| `{name}` | {figures['validation']:.3f} / {figures['test']:.3f} |" in text


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    create(tmp_path)
    assert (tmp_path / "models/digits-cnn.onnx").is_file()


def test_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match=r"must be a new or empty folder, got 1 entries\. Name"):
        create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_second_quickstart_says_how_to_serve_the_first(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"or serve this one: scanflow-serve run .*policy\.yaml"):
        create(folder)


def test_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "digits").write_text("")
    with pytest.raises(UsageError, match="must be a folder, got a file"):
        create(tmp_path / "digits")


class _Answers(BaseHTTPRequestHandler):
    """Answers as `/predict` does, after checking what the client sent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        right = body[:4] == b"\x89PNG" and self.headers["Content-Type"] == "image/png"
        answer = {"label": self.server.label, "variant": "v"}  # type: ignore[attr-defined]
        reply = json.dumps(answer if right else {"detail": "no PNG"})
        self.send_response(200 if right else 415)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply.encode())

    def log_message(self, *args: object) -> None:
        return


def run_client(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "client.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("label", ["7", 7])
def test_client_prints_the_label_by_name_or_number(folder: Path, label: str | int) -> None:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        server.label = label  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        done = run_client(folder, "--url", f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert (done.returncode, done.stderr) == (0, "")
    assert "7.png: 7, by v" in done.stdout


def test_client_says_so_when_nothing_listens(folder: Path) -> None:
    done = run_client(folder, "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "Is the server running?" in done.stderr
