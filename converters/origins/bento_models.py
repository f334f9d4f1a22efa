"""A tag in BentoML's model store, read as the folders it is: ``models/NAME/VERSION``.

bentoml itself is imported by serving only, and a device may convert without its server.
Source: bentoml/_internal/store.py and models/model.py of BentoML 1.4.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from scanflow_serve.converters.origins.origin import Lineage
from scanflow_serve.policies.errors import ArtifactError

_TAG = re.compile(r"(?P<name>[a-z0-9][a-z0-9_.-]*)(?::(?P<version>[A-Za-z0-9][A-Za-z0-9_.-]*))?")


def bento_home() -> Path:
    """Return BentoML's folder: ``BENTOML_HOME``, else ``~/bentoml``."""
    return Path(os.environ.get("BENTOML_HOME") or Path.home() / "bentoml")


def bento_file(where: str, tag: str, suffixes: Collection[str]) -> tuple[Path, Lineage]:
    """Return the one model file of *tag*, ``NAME:VERSION`` or ``NAME`` for the latest.

    Raises:
        ArtifactError: The tag is malformed or unknown, or there is not one such file in it.
    """
    match = _TAG.fullmatch(tag)
    if match is None:
        raise ArtifactError(f"{where}: a Bento tag must read NAME or NAME:VERSION, got {tag!r}.")
    store = bento_home() / "models" / match["name"]
    version = match["version"] or "latest"
    if version == "latest":
        version = _latest(where, store)
    folder = store / version
    if not (folder / "model.yaml").is_file():
        known = ", ".join(sorted(p.name for p in store.glob("*/"))) or "none"
        raise ArtifactError(
            f"{where}: bento model {tag!r} must be in {bento_home()}, got versions: {known}. "
            "See: bentoml models list"
        )
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes]
    if len(files) != 1:
        names = ", ".join(path.name for path in files) or "none"
        raise ArtifactError(
            f"{where}: bento model {tag!r} must hold one model file "
            f"({', '.join(sorted(suffixes))}), got {names}."
        )
    return files[0], Lineage(f"bento:{match['name']}:{version}")


def _latest(where: str, store: Path) -> str:
    try:
        return (store / "latest").read_text().strip()
    except OSError:
        raise ArtifactError(
            f"{where}: bento model {store.name!r} must be in {bento_home()}, got none. "
            "See: bentoml models list"
        ) from None
