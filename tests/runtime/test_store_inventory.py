"""What is in a store is listed, held to its digests, and bounded in size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from store_worlds import REFUSED, key_of, maker

from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.store import ArtifactStore
from scanflow_serve.runtime.stored import FILE

NAMES = ("old", "middle", "new")
CONTENT = b"x" * 100_000


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """Three artifacts of 0.1 MB, last used at 1000, 2000 and 3000 s."""
    store = ArtifactStore(tmp_path)
    for number, name in enumerate(NAMES, start=1):
        store.publish(key_of(name), maker(CONTENT))
        use(store, name, 1000.0 * number)
    return store


def use(store: ArtifactStore, name: str, when_s: float) -> None:
    os.utime(store.folder / "made" / key_of(name) / FILE, (when_s, when_s))


def corrupt(store: ArtifactStore, name: str, size: int = 0) -> None:
    (store.folder / "made" / key_of(name) / "2-int8" / "net.onnx").write_bytes(b"y" * size)


def kept(store: ArtifactStore) -> set[str]:
    return {name for name in NAMES if store.find(key_of(name)) is not None}


def mb_of(store: ArtifactStore, count: int) -> float:
    return sum(entry.size_bytes for entry in store.list()[:count]) / 2**20


def test_list_gives_artifact_size_and_last_use(store: ArtifactStore) -> None:
    entries = {entry.key: entry for entry in store.list()}
    assert entries.keys() == {key_of(name) for name in NAMES}
    old = entries[key_of("old")]
    assert isinstance(old.artifact, Artifact)
    folder = store.folder / "made" / key_of("old")
    assert old.size_bytes == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert old.used_at.timestamp() == 1000.0
    assert old.to_json()["artifact"] == old.artifact.to_json()


def test_finding_an_artifact_notes_its_use(store: ArtifactStore) -> None:
    store.find(key_of("old"))
    last = max(store.list(), key=lambda entry: entry.used_at)
    assert last.key == key_of("old")


def test_verify_names_the_corrupt_one_and_moves_it_away(
    store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt(store, "middle", size=len(CONTENT))
    assert all(entry.fault is None for entry in store.list())  # of the right size: not read
    seen: list[tuple[int, int, str]] = []
    entries = store.verify(lambda *progress: seen.append(progress))
    faulty = [entry for entry in entries if entry.fault is not None]
    assert [(entry.key, entry.artifact) for entry in faulty] == [(key_of("middle"), None)]
    assert "net.onnx: SHA-256 must be" in str(faulty[0].fault)
    assert seen == [(i, 3, key) for i, key in enumerate(sorted(map(key_of, NAMES)))]
    assert kept(store) == {"old", "new"}
    assert "moved to" in caplog.text


@pytest.mark.parametrize(
    ("bound", "left"),
    [(3, {"old", "middle", "new"}), (2, {"middle", "new"}), (1, {"new"}), (0, set())],
)
def test_gc_removes_the_least_recently_used(
    store: ArtifactStore, bound: int, left: set[str]
) -> None:
    collected = store.gc(mb_of(store, bound))
    assert [entry.key for entry in collected.removed] == [
        key_of(name) for name in NAMES if name not in left
    ]
    assert collected.kept_bytes == sum(entry.size_bytes for entry in store.list())
    assert kept(store) == left


def test_gc_keeps_to_the_bound_from_below(store: ArtifactStore) -> None:
    store.gc(mb_of(store, 2) - 1e-6)
    assert kept(store) == {"new"}


def test_gc_removes_corrupt_artifacts_first(store: ArtifactStore) -> None:
    corrupt(store, "new")
    collected = store.gc(1000)
    assert [entry.key for entry in collected.removed] == [key_of("new")]
    assert kept(store) == {"old", "middle"}


def test_gc_empties_the_quarantine_but_keeps_refusals(store: ArtifactStore) -> None:
    store.refuse(key_of("old"), REFUSED)
    assert len(list((store.folder / "quarantine").iterdir())) == 1
    store.gc(1000)
    assert list((store.folder / "quarantine").iterdir()) == []
    assert store.refusals().keys() == {key_of("old")}


def test_gc_on_trial_says_the_same_and_removes_nothing(store: ArtifactStore) -> None:
    bound = mb_of(store, 1)
    trial = store.gc(bound, dry_run=True)
    assert len(store.list()) == 3
    assert store.gc(bound) == trial


def test_gc_passes_over_what_is_held(store: ArtifactStore) -> None:
    with store.hold(key_of("old")):
        collected = store.gc(mb_of(store, 1))
    assert [entry.key for entry in collected.held] == [key_of("old")]
    assert kept(store) == {"old"}


def test_foreign_files_in_the_store_are_left_alone(store: ArtifactStore) -> None:
    foreign = [store.folder / kind / "notes.txt" for kind in ("made", "working", "locks")]
    for file in foreign:
        file.write_text("mine")
    assert len(store.list()) == 3
    store.gc(0)
    assert all(file.read_text() == "mine" for file in foreign)


def test_empty_store_is_listed_verified_and_collected(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "none")
    assert (store.list(), store.verify(), store.refusals()) == ((), (), {})
    assert store.gc(0).removed == ()
    assert not (tmp_path / "none").exists()
