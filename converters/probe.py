"""Whether a model that was made elsewhere answers here as it did there.

Where it is published, rows are generated and its answers to them recorded; where it is fetched,
each backend of that host has to answer the same. So a file that is fine by its digests, but
saturates or lacks an operator on this processor, is not served.
Backends run in a child process: they are native code, and the file is somebody else's.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from scanflow_serve.converters.origins.in_child import call_worker
from scanflow_serve.policies.errors import ArtifactError, MissingExtraError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry

WORKER = "scanflow_serve.converters.probe_worker"
INPUTS, OUTPUTS = "inputs.npz", "outputs.npz"
TIMEOUT_S = 600.0  # loading a large network on a small board, and a few rows


def record(artifact: Artifact, folder: Path) -> None:
    """Write generated rows, and what *artifact* answers to them on this host, to *folder*.

    Raises:
        ArtifactError: It can't be loaded or run.
        MissingExtraError: No backend that loads it is installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _call("record", artifact, folder)


def hold(artifact: Artifact, folder: Path | None) -> None:
    """Return if *artifact* answers on this host as was recorded.

    Args:
        folder: What `record` wrote; without it, the answers must only be finite and of the
            signature's names, dtypes and shapes.

    Raises:
        ArtifactError: A backend of this host answers otherwise, or none can load it.
        MissingExtraError: No backend that loads it is installed.
    """
    _call("hold", artifact, folder)


def backends(artifact: Artifact) -> list[str]:
    """Return the installed backends that load the artifact, first those it was verified on.

    Raises:
        ArtifactError: No backend of this version loads the format.
        MissingExtraError: None that does is installed.
    """
    able = [name for name, entry in registry.BACKENDS.items() if artifact.format in entry.formats]
    found = [name for name in able if registry.installed(name)]
    if not able:
        known = sorted(frozenset().union(*(entry.formats for entry in registry.BACKENDS.values())))
        raise ArtifactError(
            f"{artifact.path.name}: the format must be {' or '.join(known)}, got "
            f"{artifact.format!r}. Update scanflow-serve here."
        )
    if not found:
        raise MissingExtraError(f"A backend for {artifact.path.name}", able[0])
    return sorted(found, key=lambda name: name not in artifact.manifest.effective)


def _call(action: str, artifact: Artifact, folder: Path | None) -> None:
    job = {
        "action": action,
        "artifact": artifact.to_json(),
        "probe": str(folder) if folder else None,
        "backends": backends(artifact),
    }
    where = f"Artifact {artifact.id[:12]} ({artifact.model} {artifact.format} {artifact.precision})"
    with tempfile.TemporaryDirectory() as name:
        try:
            call_worker(WORKER, {**job, "folder": name}, where, Path(name), TIMEOUT_S)
        except ArtifactError as error:
            text = str(error)
            raise ArtifactError(text if text.startswith(where) else f"{where}: {text}") from None
