from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from scanflow_serve.policies.errors import StateError
from scanflow_serve.runtime.checks.storage import Checkpoint, Storage

KEPT = Checkpoint("d1", {"rows": 7}, {"a/b": np.arange(3.0), "ids": np.array(["x", "yy"])})


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    Storage(tmp_path / "checks").save("drift", KEPT, sync=True)
    found = Storage(tmp_path / "checks").load("drift", "d1")
    assert found is not None
    assert found.document == {"rows": 7}
    np.testing.assert_array_equal(found.arrays["a/b"], KEPT.arrays["a/b"])
    assert [str(each) for each in found.arrays["ids"]] == ["x", "yy"]


def test_checkpoint_of_other_settings_is_not_taken_up(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.save("drift", KEPT)
    assert storage.load("drift", "d2") is None
    assert storage.load("balance", "d1") is None


def test_torn_file_counts_as_none(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.save("drift", KEPT)
    file = tmp_path / "drift.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert storage.load("drift", "d1") is None


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "drift.npz", a=np.array([{"code": 1}], dtype=object))
    assert Storage(tmp_path).load("drift", "d1") is None


def test_failed_write_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(tmp_path)
    storage.save("drift", KEPT)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match=r"drift\.npz: must be writable, got 'No space left"):
        storage.save("drift", Checkpoint("d1", {"rows": 8}, {}), sync=True)
    found = storage.load("drift", "d1")
    assert found is not None
    assert found.document == {"rows": 7}


def test_forgotten_check_has_none(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    storage.save("drift", KEPT)
    storage.forget("drift")
    storage.forget("drift")
    assert storage.load("drift", "d1") is None


def test_only_what_changed_is_written_again(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    large = np.arange(1000.0)
    storage.save("drift", Checkpoint("d1", {"rows": 1}, {"large": large, "n": np.array(1)}))
    before = (tmp_path / "drift.npz").read_bytes()
    storage.save("drift", Checkpoint("d1", {"rows": 2}, {"large": large, "n": np.array(2)}))
    assert (tmp_path / "drift.npz").read_bytes() == before
    found = Storage(tmp_path).load("drift", "d1")
    assert found is not None
    assert (found.document, int(found.arrays["n"])) == ({"rows": 2}, 2)
    np.testing.assert_array_equal(found.arrays["large"], large)


def test_changes_of_an_older_whole_are_not_mixed_in(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    large = np.arange(1000.0)
    for rows in (1, 2):
        kept = Checkpoint("d1", {"rows": rows}, {"large": large, "n": np.array(rows)})
        storage.save("drift", kept)
    again = Checkpoint("d1", {"rows": 3}, {"large": large + 1, "n": np.array(3)})
    Storage(tmp_path).save("drift", again)
    found = Storage(tmp_path).load("drift", "d1")
    assert found is not None
    assert (found.document, int(found.arrays["n"])) == ({"rows": 3}, 3)
