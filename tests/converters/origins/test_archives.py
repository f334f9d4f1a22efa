from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from hostile_worlds import bomb_of_skops, bomb_of_torch
from origin_worlds import Find
from sklearn.linear_model import LogisticRegression

from scanflow_serve.converters.origins.archives import require_proportion
from scanflow_serve.policies.errors import ArtifactError

BOUND = r"must unpack to at most 268435456 bytes, 20 times its size, got 3145\d+"


def test_program_that_is_a_bomb_is_refused_before_it_is_loaded(find: Find, folder: Path) -> None:
    source = bomb_of_torch(folder)
    with pytest.raises(ArtifactError, match=rf"net\.pt2 {BOUND}"):
        find(source).export(folder / "out")


def test_estimator_that_is_a_bomb_is_refused_before_it_is_loaded(find: Find, folder: Path) -> None:
    source = bomb_of_skops(folder)
    with pytest.raises(ArtifactError, match=rf"net\.skops {BOUND}"):
        find(source).export(folder / "out")


def test_weights_that_are_a_bomb_are_refused_before_they_are_loaded(
    find: Find, folder: Path
) -> None:
    code = "import torch\n\ndef net():\n    return torch.nn.Linear(4, 3)\n"
    (folder / "nets.py").write_text(code)
    (folder / bomb_of_torch(folder)).rename(folder / "weights.pt")
    with pytest.raises(ArtifactError, match=rf"weights\.pt {BOUND}"):
        find("torch:nets:net", weights="weights.pt").export(folder / "out")


def test_compressed_archive_in_proportion_is_loaded(find: Find, folder: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    model = LogisticRegression().fit(rows, [0, 1, 0, 1])
    skops.io.dump(model, folder / "net.skops", compression=zipfile.ZIP_DEFLATED)
    answer = find("net.skops").reference({"input": rows})["probabilities"]
    np.testing.assert_allclose(answer, model.predict_proba(rows), rtol=1e-5)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_archive_is_left_to_its_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pt2").write_bytes(content)
    require_proportion("Model 'net'", tmp_path / "net.pt2")
