"""An artifact is found whole, as it was made, or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import tiny_models
from store_worlds import MANIFEST, REFUSED, SIGNATURE, key_of, made, maker

from scanflow_serve.policies.errors import ArtifactError, StateError
from scanflow_serve.runtime.artifacts import MANIFEST_VERSION, Artifact, Format
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.store import ArtifactStore, artifact_key, shared_store
from scanflow_serve.runtime.stored import FILE, Made

KEY = key_of("net")


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def never(folder: Path) -> Made:
    raise AssertionError("made again")


def published(store: ArtifactStore, name: str = "net", content: bytes = b"graph") -> Artifact:
    artifact = store.publish(key_of(name), maker(content))
    assert isinstance(artifact, Artifact)
    return artifact


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_published_artifact_is_found_as_it_was_made(store: ArtifactStore) -> None:
    artifact = published(store)
    assert store.find(KEY) == artifact
    assert artifact.path.read_bytes() == b"graph"
    assert artifact.size_bytes == len(b"graph") + len(b"weights")
    assert (artifact.id, artifact.model) == (KEY, "net")
    assert (artifact.format, artifact.precision) == ("onnx", "int8")
    assert (artifact.signature, artifact.manifest) == (SIGNATURE, MANIFEST)
    assert Artifact.from_json(artifact.to_json()) == artifact


def test_known_artifact_is_not_made_again(store: ArtifactStore) -> None:
    artifact = published(store)
    assert store.publish(KEY, never) == artifact


def test_manifest_beside_an_artifact_tells_where_it_comes_from(store: ArtifactStore) -> None:
    artifact = published(store)
    document = json.loads((store.folder / "made" / KEY / FILE).read_bytes())
    assert document["schema"] == MANIFEST_VERSION
    assert document["key"] == KEY
    assert document["signature"] == SIGNATURE.to_json()
    assert document["manifest"] == json.loads(json.dumps(asdict(MANIFEST)))
    assert [(entry["name"], entry["bytes"]) for entry in document["files"]] == [
        ("2-int8/net.onnx", 5),
        ("2-int8/net.data", 7),
    ]
    assert artifact.path == store.folder / "made" / KEY / "2-int8" / "net.onnx"


def test_only_the_files_of_the_model_are_kept(store: ArtifactStore) -> None:
    published(store)
    assert everything(store.folder) == {
        f"made/{KEY}/{name}" for name in (FILE, "2-int8/net.onnx", "2-int8/net.data")
    }
    assert not (store.folder / "made" / KEY / "1-clean").exists()


def test_unknown_key_has_no_artifact(store: ArtifactStore) -> None:
    assert store.find(KEY) is None
    assert store.refused(KEY) is None
    assert (store.list(), store.refusals()) == ((), {})


@pytest.mark.parametrize("key", ["", "../../etc", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_key_that_is_no_hash_is_refused(store: ArtifactStore, key: str) -> None:
    with pytest.raises(ArtifactError, match="must be 64 hex digits"):
        store.find(key)
    with pytest.raises(ArtifactError, match="must be 64 hex digits"):
        store.publish(key, maker(b"graph"))


@pytest.mark.parametrize(
    "other",
    [
        artifact_key("other", MANIFEST.route, MANIFEST.options, MANIFEST.tools),
        artifact_key("net", MANIFEST.route[:1], MANIFEST.options, MANIFEST.tools),
        artifact_key("net", MANIFEST.route, {**MANIFEST.options, "rows": 301}, MANIFEST.tools),
        artifact_key("net", MANIFEST.route, MANIFEST.options, {**MANIFEST.tools, "onnx": "2"}),
    ],
)
def test_key_depends_on_source_route_options_and_tools(other: str) -> None:
    assert other != KEY


def test_key_does_not_depend_on_the_order_of_options() -> None:
    backwards = dict(reversed(MANIFEST.options.items()))
    tools = dict(reversed(MANIFEST.tools.items()))
    assert artifact_key("net", MANIFEST.route, backwards, tools) == KEY


def test_failed_conversion_leaves_nothing_and_can_be_tried_again(store: ArtifactStore) -> None:
    def fail(folder: Path) -> Made:
        made(folder)
        raise ArtifactError("operator 'Foo' of node 'n7' is not supported")

    with pytest.raises(ArtifactError, match="node 'n7'"):
        store.publish(KEY, fail)
    assert everything(store.folder) == set()
    assert store.publish(KEY, maker(b"better")) == store.find(KEY)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda m, f: replace(m, files=(f / "nowhere.onnx",)), r"nowhere\.onnx: must be a file"),
        (lambda m, f: replace(m, files=(f / "link",)), "link: must be a file"),
        (lambda m, f: replace(m, files=(f / ".." / "outside",)), "must lie in .* outside of it"),
        (lambda m, f: replace(m, format="openvino"), r"net\.bin: must be among the model's files"),
    ],
)
def test_model_that_is_not_whole_is_not_published(
    store: ArtifactStore, change: Callable[[Made, Path], Made], text: str
) -> None:
    def make(folder: Path) -> Made:
        (folder.parent / "outside").write_bytes(b"x")
        (folder / "link").symlink_to(folder.parent / "outside")
        return change(made(folder), folder)

    with pytest.raises(ArtifactError, match=text):
        store.publish(KEY, make)
    assert store.find(KEY) is None


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


CORRUPTIONS: dict[str, Callable[[Path], object]] = {
    "bit of the model": lambda f: flip_a_bit(f / "2-int8/net.onnx"),
    "bit of the weights": lambda f: flip_a_bit(f / "2-int8/net.data"),
    "bit of the manifest": lambda f: flip_a_bit(f / FILE),
    "cut": lambda f: (f / "2-int8/net.data").write_bytes(b"weig"),
    "missing": lambda f: (f / "2-int8/net.data").unlink(),
    "one more": lambda f: (f / "2-int8/net.bin").write_bytes(b""),
    "link": lambda f: (
        shutil.move(f / "2-int8/net.data", f / "x") and (f / "2-int8/net.data").symlink_to("../x")
    ),
    "linked folder": lambda f: (f / "more").symlink_to("/"),
    "no manifest": lambda f: (f / FILE).unlink(),
    "no JSON": lambda f: (f / FILE).write_bytes(b"{"),
    "no object": lambda f: (f / FILE).write_bytes(b"[]"),
    "another schema": lambda f: rewrite(f / FILE, b'"schema": 1', b'"schema": 2'),
    "better figures": lambda f: rewrite(f / FILE, b'"agreement": 0.99', b'"agreement": 1.0'),
    "a path that leads out": lambda f: rewrite(f / FILE, b"2-int8/net.onnx", b"../../x"),
}


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_corrupt_artifact_is_quarantined_and_made_again(
    store: ArtifactStore, corrupt: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    artifact = published(store)
    corrupt(store.folder / "made" / KEY)
    assert store.find(KEY) is None
    ((_, level, text),) = caplog.record_tuples
    assert level == logging.WARNING
    assert text.startswith(f"Artifact {KEY}: corrupt, moved to {store.folder / 'quarantine'}")
    (place,) = (store.folder / "quarantine").iterdir()
    assert place.name.startswith(KEY)
    assert store.publish(KEY, maker(b"graph")) == artifact
    assert store.find(KEY) == artifact


def test_artifact_under_the_key_of_another_is_corrupt(
    store: ArtifactStore, caplog: pytest.LogCaptureFixture
) -> None:
    published(store)
    shutil.copytree(store.folder / "made" / KEY, store.folder / "made" / key_of("other"))
    assert store.find(key_of("other")) is None
    assert f"key must be '{key_of('other')}', got '{KEY}'" in caplog.text


def test_files_are_on_the_disk_before_the_artifact_has_its_name(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[int] = set()
    pending: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(fd: int) -> None:
        flushed.add(os.fstat(fd).st_ino)
        fsync(fd)

    def noted_rename(source: Path, target: Path) -> Path:
        pending.extend(str(p) for p in source.rglob("*") if p.stat().st_ino not in flushed)
        return rename(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    published(store)
    assert pending == []
    assert (store.folder / "made").stat().st_ino in flushed


def test_refusal_is_remembered_with_its_figures(store: ArtifactStore) -> None:
    assert store.publish(KEY, lambda folder: REFUSED) == REFUSED
    kept = store.publish(KEY, never)
    assert kept == store.refused(KEY) == store.refusals()[KEY]
    expected = {"y": {"error": None, "agreement": 0.5}}  # JSON has no NaN
    assert kept == replace(REFUSED, manifest=replace(REFUSED.manifest, verification=expected))
    assert store.find(KEY) is None
    assert everything(store.folder) == {f"refused/{KEY}.json"}


def test_forgotten_refusal_is_tried_again(store: ArtifactStore) -> None:
    store.refuse(KEY, REFUSED)
    store.forget(KEY)
    assert store.publish(KEY, maker(b"graph")) == store.find(KEY)


def test_artifact_that_is_refused_later_is_withdrawn(store: ArtifactStore) -> None:
    published(store)
    store.refuse(KEY, REFUSED)
    assert store.find(KEY) is None
    assert store.publish(KEY, never) == store.refused(KEY)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"refusal": 3}'])
def test_refusal_that_cannot_be_read_is_ignored_with_a_warning(
    store: ArtifactStore, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.refuse(KEY, REFUSED)
    (store.folder / "refused" / f"{KEY}.json").write_bytes(data)
    assert store.publish(KEY, maker(b"graph")) == store.find(KEY)
    assert "the conversion is tried again" in caplog.text


def test_store_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = ArtifactStore(tmp_path / "file" / "store")
    with pytest.raises(StateError, match=r"must be writable, got 'Not a directory'.*artifacts gc"):
        store.publish(KEY, never)


def test_store_is_in_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCANFLOW_CACHE", str(tmp_path))
    artifact = published(shared_store())
    assert artifact.path.is_relative_to(tmp_path / "store" / "made")


def test_artifact_made_elsewhere_is_checked_and_then_adopted(
    store: ArtifactStore, tmp_path: Path
) -> None:
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    there = published(elsewhere)
    seen: list[Artifact] = []
    here = store.adopt(elsewhere.folder / "made" / KEY, seen.append)
    assert seen[0].path.is_relative_to(store.folder / "working")
    elsewhere_too = {"path": there.path, "data": there.data}
    assert replace(seen[0], **elsewhere_too) == replace(here, **elsewhere_too) == there
    assert [path.name for path in here.data] == [path.name for path in there.data]
    assert here.path.is_relative_to(store.folder / "made")
    shutil.rmtree(elsewhere.folder)
    assert store.publish(KEY, never) == here


def test_artifact_made_elsewhere_that_fails_its_check_is_not_adopted(
    store: ArtifactStore, tmp_path: Path
) -> None:
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    published(elsewhere)

    def check(artifact: Artifact) -> None:
        raise ArtifactError("agreement must be 90%, got 12%")

    with pytest.raises(ArtifactError, match="got 12%"):
        store.adopt(elsewhere.folder / "made" / KEY, check)
    assert everything(store.folder) == set()


@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS.keys())
def test_corrupt_artifact_made_elsewhere_is_not_adopted(
    store: ArtifactStore, tmp_path: Path, corrupt: Callable[[Path], object]
) -> None:
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    published(elsewhere)
    corrupt(elsewhere.folder / "made" / KEY)
    with pytest.raises(ArtifactError, match=r"must .*, got .* Make the artifact again\."):
        store.adopt(elsewhere.folder / "made" / KEY, lambda artifact: None)
    assert not store.folder.exists() or everything(store.folder) == set()


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the manifest, digest included, as whoever can write there can."""
    document = json.loads((folder / FILE).read_bytes())
    del document["digest"]
    change(document)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    document["digest"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / FILE).write_text(json.dumps(document))


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no files": (lambda d: d.update(files=[]), "must describe an artifact"),
    "files of another type": (lambda d: d.update(files="net"), "must describe an artifact"),
    "no signature": (lambda d: d.pop("signature"), "must describe an artifact"),
    "unknown provenance": (lambda d: d["manifest"].update(x=1), "must describe an artifact"),
    "key that leads out": (lambda d: d.update(key="../../x"), "must be 64 hex digits"),
    "file outside": (lambda d: d["files"][0].update(name="../x"), r"files must be \['../x'"),
    "absolute file": (lambda d: d["files"][0].update(name="/etc/passwd"), "files must be"),
    "fewer files": (lambda d: d["files"].pop(), "files must be"),
    "other bytes": (lambda d: d["files"][0].update(sha256="0" * 64), "SHA-256 must be 000"),
    "other size": (lambda d: d["files"][0].update(bytes=2**60), "must have 1152921504606846976"),
}


@pytest.mark.parametrize(("change", "text"), FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_manifest_is_not_believed(
    store: ArtifactStore, tmp_path: Path, change: Callable[[dict[str, Any]], object], text: str
) -> None:
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    published(elsewhere)
    (elsewhere.folder / "x").write_bytes(b"graph")
    forge(elsewhere.folder / "made" / KEY, change)
    with pytest.raises(ArtifactError, match=text):
        store.adopt(elsewhere.folder / "made" / KEY, lambda artifact: None)
    assert not store.folder.exists() or everything(store.folder) == set()


def test_link_in_the_place_of_a_file_is_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    data = published(elsewhere).path.with_suffix(".data")
    data.rename(tmp_path / "weights")
    data.symlink_to(tmp_path / "weights")
    with pytest.raises(ArtifactError, match=r"net\.data: must be a file, got 'lrwx"):
        store.adopt(elsewhere.folder / "made" / KEY, lambda artifact: None)


def test_figures_of_numpy_are_kept_as_numbers(store: ArtifactStore) -> None:
    figures = {"y": {"error": np.float32(0.5), "rows": np.int64(64), "worst": [np.inf]}}
    manifest = replace(MANIFEST, verification=figures)
    artifact = store.publish(KEY, lambda folder: replace(made(folder), manifest=manifest))
    assert isinstance(artifact, Artifact)
    assert artifact.manifest.verification == {"y": {"error": 0.5, "rows": 64, "worst": [None]}}


def save(graph: Path, folder: Path, form: str) -> tuple[Path, ...]:
    """The model in *graph* as a conversion leaves it, in two files."""
    if form == "onnx":
        model, data = folder / "net.onnx", folder / "net.data"
        onnx.save(
            onnx.load(graph),
            model,
            save_as_external_data=True,
            location=data.name,
            size_threshold=0,
        )
        return model, data
    model = folder / "net.xml"
    openvino.save_model(openvino.convert_model(graph), model, compress_to_fp16=False)
    return model, model.with_suffix(".bin")


@pytest.mark.parametrize(
    ("form", "backend"),
    [("onnx", "onnxruntime"), ("onnx", "openvino"), ("openvino", "openvino")],
)
def test_backend_answers_from_the_store_as_from_the_source(
    store: ArtifactStore, tmp_path: Path, form: Format, backend: str
) -> None:
    runs = registry.backend(backend)
    source = tiny_models.artifact(tiny_models.linear(tmp_path / "net.onnx"), runs)

    def make(folder: Path) -> Made:
        files = save(source.path, folder, form)
        return Made("net", form, "fp32", files, runs.signature(str(files[0])), MANIFEST)

    artifact = store.publish(KEY, make)
    assert isinstance(artifact, Artifact)
    assert len(everything(artifact.path.parent)) == 3
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    answers = []
    for each in (source, artifact):
        session = runs.open(each, precision="fp32", device="CPU", threads=1)
        answers.append(session.run({"x": x})["logits"])
        session.close()
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4)
