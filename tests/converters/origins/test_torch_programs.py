from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from origin_worlds import Find, artifact, assert_answers_alike

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.tensors import TensorSpec

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::FutureWarning:copyreg")]


def save(path: Path, *, batch: int | None = None) -> Path:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    shapes = ({0: torch.export.Dim("rows")},) if batch is None else None
    example = (torch.zeros(batch or 2, 4),)
    torch.export.save(torch.export.export(network.eval(), example, dynamic_shapes=shapes), path)
    return path


def test_program_knows_its_signature_and_exports_with_a_dynamic_batch(
    find: Find, folder: Path, tmp_path: Path
) -> None:
    save(folder / "net.pt2")
    origin = find("net.pt2")
    exported = origin.export(tmp_path / "out")
    signature = artifact(exported).signature
    assert signature.inputs == (TensorSpec("input", "float32", (None, 4)),)
    rows = np.random.default_rng(0).random((5, 4), dtype=np.float32)
    assert_answers_alike(origin, exported, {"input": rows})


def test_program_of_a_fixed_batch_answers_any_number_of_rows(find: Find, folder: Path) -> None:
    save(folder / "fixed.pt2", batch=2)
    save(folder / "any.pt2")
    inputs = {"input": np.random.default_rng(0).random((5, 4), dtype=np.float32)}
    fixed = find("fixed.pt2").reference(inputs)["output"]
    np.testing.assert_allclose(fixed, find("any.pt2").reference(inputs)["output"], rtol=1e-5)


class Evil:
    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._mark,))


def with_records(path: Path, records: dict[str, bytes], *, replace: str = "") -> None:
    """Add *records* to the archive at *path*; one that ends in *replace* is left out."""
    old = path.with_suffix(".old")
    shutil.move(path, old)
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(path, "w") as target:
        root = source.namelist()[0].partition("/")[0]
        for name in source.namelist():
            if not replace or not name.endswith(replace):
                target.writestr(name, source.read(name))
        for name, content in records.items():
            target.writestr(f"{root}/{name}", content)


def test_pickle_hidden_in_a_program_is_not_run(find: Find, folder: Path, tmp_path: Path) -> None:
    path, mark = save(folder / "net.pt2"), tmp_path / "mark"
    torch.save(Evil(mark), tmp_path / "evil.pt")
    evil = (tmp_path / "evil.pt").read_bytes()
    with_records(path, {"data/sample_inputs/model.pt": evil}, replace="sample_inputs/model.pt")
    with pytest.raises(ArtifactError, match=r"net\.pt2"):
        find("net.pt2").reference({"input": np.zeros((1, 4), np.float32)})
    assert not mark.exists()


@pytest.mark.parametrize(
    "record",
    ["data/constants/opaque_obj_0", "data/constants/custom_obj_0", "data/aotinductor/m/m.so"],
)
def test_program_with_objects_or_libraries_needs_consent(
    find: Find, folder: Path, record: str
) -> None:
    with_records(save(folder / "net.pt2"), {record: b"x"})
    with pytest.raises(ArtifactError, match=f"must not run code .* got 'net/{record}' in it"):
        find("net.pt2").reference({"input": np.zeros((1, 4), np.float32)})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"PK\x05\x06" + b"\0" * 18])
def test_file_that_is_no_program_is_refused(find: Find, folder: Path, content: bytes) -> None:
    (folder / "net.pt2").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"net\.pt2 must be a"):
        find("net.pt2").reference({"input": np.zeros((1, 4), np.float32)})
