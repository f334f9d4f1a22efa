"""Artifacts for a host that lacks what makes them: found in its store, or fetched by itself.

What was converted from exactly the policy's source serves, whoever made it and with which
versions of the tools. Where the store has none, and the source lies in an MLflow registry, that
registry is asked, once a start for each model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from scanflow_serve.converters import registry
from scanflow_serve.converters.origins.mlflow_models import tracking_uri
from scanflow_serve.policies.errors import ScanflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact, Format
from scanflow_serve.runtime.measurements import Refusal
from scanflow_serve.runtime.store import ArtifactStore

ELSEWHERE = (
    "Or, where it is installed, run: scanflow-serve convert POLICY --for HOST.json (HOST.json is "
    "what 'scanflow-serve profile --json' writes here) and scanflow-serve artifacts publish KEY "
    "--to models:/NAME; then here: scanflow-serve artifacts fetch models:/NAME/VERSION."
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an artifact must be.

    Attributes:
        digest: Of the source that it was made from.
        lineage: The registry's address of that source; empty for a file.
        form: None: any, ONNX rather than another, since every backend loads that.
    """

    model: str
    digest: str
    precision: str
    lineage: str = ""
    form: Format | None = None


@dataclass(slots=True)
class ReadyArtifacts:
    """The artifacts in *store*, and those that a policy's registry has beside them.

    Attributes:
        tell: Called before something is fetched.
    """

    store: ArtifactStore
    tell: Callable[[str], None]
    _asked: dict[str, str | list[Artifact]] = field(default_factory=dict)  # by address

    def find(self, wanted: Wanted, policy_file: PolicyFile, lacking: str) -> Artifact | Refusal:
        """Return the artifact that is *wanted*, else what is lacking and what to run where.

        Args:
            lacking: What this host had to have to make it, a sentence.
        """
        if (found := self._in_store(wanted)) is not None:
            return found
        if not registry.SOURCE.fullmatch(wanted.lineage):
            return Refusal("not_installed", f"{lacking} {ELSEWHERE}")
        if wanted.lineage not in self._asked:
            self._asked[wanted.lineage] = self._fetch(wanted, policy_file)
            if (found := self._in_store(wanted)) is not None:
                return found
        return Refusal("not_installed", f"{lacking} Or: {self._cure(wanted, policy_file)}")

    def _in_store(self, wanted: Wanted) -> Artifact | None:
        """Return the newest one, under the name that its model has here."""
        entries = sorted(self.store.list(), key=lambda entry: entry.used_at, reverse=True)
        made = [(entry.key, entry.artifact) for entry in entries if entry.artifact is not None]
        for key, artifact in sorted(made, key=lambda each: each[1].format != "onnx"):
            if (
                artifact.manifest.source_digest == wanted.digest
                and wanted.form in (artifact.format, None)
                and artifact.precision == wanted.precision
                and (found := self.store.find(key)) is not None
            ):
                return replace(found, model=wanted.model)
        return None

    def _fetch(self, wanted: Wanted, policy_file: PolicyFile) -> str | list[Artifact]:
        """Return what was fetched, else why nothing was."""
        source = wanted.lineage
        self.tell(f"{wanted.model}: fetching what was made of {source}")
        try:
            uri = tracking_uri(f"Model {wanted.model!r}", policy_file)
            given = policy_file.path.name
            return registry.fetch(source, tracking_uri=uri, store=self.store, given=given)
        except ScanflowError as error:
            return str(error)

    def _cure(self, wanted: Wanted, policy_file: PolicyFile) -> str:
        fetched = self._asked[wanted.lineage]
        if isinstance(fetched, str):
            return fetched
        uri = tracking_uri(f"Model {wanted.model!r}", policy_file)
        got = ", ".join(f"{each.format} {each.precision}" for each in fetched)
        form = f"{wanted.precision} in format {wanted.form or 'any'} and of these very bytes"
        return registry.remedy(wanted.lineage, uri, form, got, policy_file.path.name)
