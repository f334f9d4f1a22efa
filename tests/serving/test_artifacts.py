"""``scanflow-serve artifacts`` in front of a real store, by running it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_worlds import MANIFEST, REFUSED, SIGNATURE, key_of, maker

from scanflow_serve.runtime.store import ArtifactStore

CONSOLE_SCRIPT = Path(sys.executable).with_name("scanflow-serve")
KEY, OTHER = key_of("net"), key_of("other")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """One artifact and one refusal."""
    store = ArtifactStore(tmp_path / "store")
    store.publish(KEY, maker(b"graph"))
    store.refuse(OTHER, REFUSED)
    return store


def artifacts(
    store: ArtifactStore, *arguments: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [CONSOLE_SCRIPT, "artifacts", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "SCANFLOW_CACHE": str(store.folder.parent)},
    )
    assert done.returncode == code, done.stderr
    return done


def document(store: ArtifactStore, *arguments: str, code: int = 0) -> Any:
    return json.loads(artifacts(store, *arguments, "--json", code=code).stdout)


def corrupt(store: ArtifactStore) -> None:
    (store.folder / "made" / KEY / "2-int8" / "net.onnx").write_bytes(b"grapf")


def test_list_shows_artifacts_and_refusals_with_their_reason(store: ArtifactStore) -> None:
    text = artifacts(store, "list").stdout
    assert f"{store.folder}: 1 artifact, 0.0 MB" in text
    (line,) = [line for line in text.splitlines() if KEY[:12] in line]
    assert line.split("│")[2:5] == [" net   ", " onnx   ", " int8      "]
    assert "ok" in line
    assert "refused: output 'y' must be finite" in text


def test_list_writes_json_for_machines(store: ArtifactStore) -> None:
    listed = document(store, "list")
    assert listed["folder"] == str(store.folder)
    (entry,) = listed["artifacts"]
    assert entry["key"] == KEY
    assert entry["artifact"]["signature"] == SIGNATURE.to_json()
    assert entry["size_bytes"] == store.list()[0].size_bytes
    assert listed["refused"][OTHER]["refusal"]["code"] == "verification"


def test_list_of_an_empty_store_says_so(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    assert artifacts(store, "list").stdout == f"{store.folder}: no converted models yet.\n"


def test_show_takes_the_beginning_of_a_key(store: ArtifactStore) -> None:
    lines = dict(
        line.split(maxsplit=1) for line in artifacts(store, "show", KEY[:6]).stdout.splitlines()
    )
    assert lines["key"] == KEY
    assert lines["route"] == "onnx-clean -> onnx-int8"
    assert lines["source"] == f"models/net.onnx (SHA-256 {MANIFEST.source_digest})"
    assert lines["tools"] == "onnx 1.23.2, onnxruntime 1.32.0"
    assert lines["verified"] == "onnxruntime  y (error 0.01, agreement 0.99)"
    assert lines["input"] == "x float32[-1, 4]"
    assert lines["seconds"] == "onnx-clean 0.25, onnx-int8 1.5"


def test_show_writes_the_manifest_as_json(store: ArtifactStore) -> None:
    assert document(store, "show", KEY) == store.manifest(KEY)


def test_show_says_why_a_conversion_was_refused(store: ArtifactStore) -> None:
    text = artifacts(store, "show", OTHER).stdout
    assert "verified y   error not a number, agreement 0.5" in text
    assert "refused      output 'y' must be finite" in text
    assert document(store, "show", OTHER)["refusal"] == REFUSED.refusal.to_json()


@pytest.mark.parametrize(("key", "count"), [("xyz", 0), ("", 2)])
def test_show_of_no_single_artifact_says_where_keys_are_listed(
    store: ArtifactStore, key: str, count: int
) -> None:
    done = artifacts(store, "show", key, code=2)
    assert done.stderr == (
        f"KEY must begin exactly one artifact's key, got {key!r}, which begins {count}. "
        "See: scanflow-serve artifacts list\n"
    )


def test_verify_of_intact_artifacts_succeeds(store: ArtifactStore) -> None:
    assert "1 artifact, 0 corrupt" in artifacts(store, "verify").stdout
    assert document(store, "verify")["ok"] is True


def test_verify_fails_on_a_corrupt_artifact_and_moves_it_away(store: ArtifactStore) -> None:
    corrupt(store)
    found = document(store, "verify", code=1)
    assert found["ok"] is False
    assert "SHA-256 must be" in found["artifacts"][0]["fault"]
    assert store.list() == ()
    assert len(list((store.folder / "quarantine").iterdir())) == 1


def test_verify_tells_people_which_artifact_is_corrupt(store: ArtifactStore) -> None:
    corrupt(store)
    done = artifacts(store, "verify", code=1)
    assert "1 artifact, 1 corrupt" in done.stdout
    assert f"Artifact {KEY}: corrupt, moved to {store.folder / 'quarantine'}" in done.stderr


def test_gc_says_what_it_removes_and_a_dry_run_removes_nothing(store: ArtifactStore) -> None:
    trial = artifacts(store, "gc", "--max-mb", "0", "--dry-run").stdout
    assert trial.splitlines() == [
        f"would remove {KEY[:12]}  0.00 MB  net int8",
        "would remove 1 artifact, 0.00 MB stay",
    ]
    assert len(store.list()) == 1
    assert artifacts(store, "gc", "--max-mb", "0").stdout == trial.replace(
        "would remove", "removed"
    )
    assert store.list() == ()


def test_gc_keeps_what_a_running_process_has(store: ArtifactStore) -> None:
    with store.hold(KEY):
        done = artifacts(store, "gc", "--max-mb", "0")
        assert done.stderr == f"kept {KEY[:12]}: a running process has it\n"
        collected = document(store, "gc", "--max-mb", "0")
    assert [entry["key"] for entry in collected["held"]] == [KEY]
    assert collected["kept_bytes"] == store.list()[0].size_bytes


def test_gc_asks_for_a_bound(store: ArtifactStore) -> None:
    assert "Missing option '--max-mb'" in artifacts(store, "gc", code=2).stderr
    assert "-1.0 is not in the range" in artifacts(store, "gc", "--max-mb", "-1", code=2).stderr
