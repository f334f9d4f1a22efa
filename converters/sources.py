"""From a policy's model source to an artifact that a backend can load.

ONNX files and OpenVINO IR are served as they stand, from where they lie. Reading a signature
means loading the model, so it is kept in the cache folder under the hash of the model's bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path

from scanflow_serve.converters.onnx_structure import read_structure
from scanflow_serve.policies import schema
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact, Format, Manifest, file_digest
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.folders import cache_folder
from scanflow_serve.runtime.tensors import Signature

log = logging.getLogger(__name__)
SUFFIXES = (".onnx", ".xml")


@dataclass(frozen=True, slots=True)
class _Source:
    """A model file as it stands: what it is made of."""

    format: Format
    precision: str
    files: tuple[Path, ...]  # the model's own first


def ingest(name: str, model: schema.Model, policy_file: PolicyFile) -> Artifact:
    """Return the artifact of model *name*, served as it stands.

    Raises:
        ArtifactError: The source is of a kind that must be converted, or missing, malformed,
            with external data outside of its folder, or loaded by no installed backend.
        PolicyError: The path leaves the policy's folder.
    """
    suffix = Path(model.source).suffix.lower()
    if re.match(r"[a-z]\w+:", model.source) or suffix not in SUFFIXES:
        raise ArtifactError(
            f"Model {name!r}: source must be an ONNX file or OpenVINO IR (.xml) to be served as it "
            f"stands, got {model.source!r}. Convert it: scanflow-serve convert POLICY"
        )
    path = policy_file.resolve(model.source)
    return file_artifact(name, path, policy_file.folder, source=model.source)


def file_artifact(name: str, path: Path, folder: Path, *, source: str = "") -> Artifact:
    """Return the artifact that the model file *path* is, as it stands.

    Args:
        folder: What external data may not leave, where it is not beside the model.
        source: As the policy says it; default: the path.

    Raises:
        ArtifactError: It is missing, malformed, with external data outside of its folder, or
            loaded by no installed backend.
    """
    found = _inspect(name, path, folder)
    digest = _digest(found.files)
    key = hashlib.sha256(f"{digest} {found.format} {found.precision}".encode()).hexdigest()
    signature, tools = _signature(path, found.format, key)
    return Artifact(
        id=key,
        model=name,
        format=found.format,
        precision=found.precision,
        path=path,
        size_bytes=sum(file.stat().st_size for file in found.files),
        signature=signature,
        manifest=Manifest(source=source or str(path), source_digest=digest, tools=tools),
        data=found.files[1:],
    )


def model_files(name: str, path: Path, folder: Path) -> tuple[Path, ...]:
    """Return the files of the model in *path*, its own first.

    Raises:
        ArtifactError: As `file_artifact`.
    """
    return _inspect(name, path, folder).files


def _inspect(name: str, path: Path, folder: Path) -> _Source:
    if not path.is_file():
        raise ArtifactError(f"{path}: must be the file of model {name!r}, got none. Put it there.")
    if path.suffix.lower() == ".onnx":
        structure = read_structure(path)
        external = (_external(path, place, folder) for place in sorted(structure.external))
        return _Source("onnx", structure.precision, (path, *external))
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ArtifactError(f"{weights}: must hold the weights of {path.name}, got no such file.")
    quantised = b'type="FakeQuantize"' in path.read_bytes()
    weights = _external(path, weights.name, folder)
    return _Source("openvino", "int8" if quantised else "fp32", (path, weights))


def _external(path: Path, location: str, root: Path) -> Path:
    """Return the file of external data; it may not lie outside of the folders it belongs to."""
    place = (path.parent / location).resolve()
    for folder in (path.parent.resolve(), root.resolve()):
        if not place.is_relative_to(folder):
            raise ArtifactError(
                f"{path}: external data must stay in {folder}, got {location!r}. "
                "Save the model again with its data beside it."
            )
    if not place.is_file():
        raise ArtifactError(
            f"{path}: external data must lie beside the model, got no file {location!r}. "
            "Copy it there."
        )
    return place


def _digest(files: tuple[Path, ...]) -> str:
    """Return the SHA-256 of the model file, or of all its files' hashes if there are several."""
    digests = [file_digest(file) for file in files]
    if len(digests) == 1:
        return digests[0]
    lines = (f"{file.name} {digest}\n" for file, digest in zip(files, digests, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _signature(path: Path, form: Format, key: str) -> tuple[Signature, dict[str, str]]:
    kept = cache_folder() / "artifacts" / f"{key}.json"
    try:
        value = json.loads(kept.read_bytes())
        return Signature.from_json(value["signature"]), dict(value["tools"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("%s: ignored and written again: %s", kept, error)
    signature, tools = _load_signature(path, form)
    _keep(kept, {"signature": signature.to_json(), "tools": tools})
    return signature, tools


def _load_signature(path: Path, form: Format) -> tuple[Signature, dict[str, str]]:
    """Ask the installed backends in turn: each lacks operators that another has."""
    refusals: list[ArtifactError] = []
    able = [name for name, entry in registry.BACKENDS.items() if form in entry.formats]
    for name in filter(registry.installed, able):
        backend = registry.backend(name)
        try:
            return backend.signature(str(path)), {name: backend.version()}
        except ArtifactError as refusal:
            refusals.append(refusal)
    if refusals:
        cure = "Export the model again, with operators that an installed backend has."
        raise ArtifactError("\n".join([*map(str, refusals), cure])) from None
    raise MissingExtraError(f"A backend for {path.name} ({' or '.join(able)})", able[0])


def _keep(path: Path, value: object) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        partial.write_text(json.dumps(value))
        partial.replace(path)
    except OSError as error:
        log.warning("%s: can't be kept, the model is loaded again next time: %s", path, error)
