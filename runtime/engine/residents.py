"""The sessions that are loaded: each once, whoever runs it, and what memory they take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends import registry
from scanflow_serve.runtime.backends.session import Session
from scanflow_serve.runtime.measurements import Measurement, Measurements
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.store import held_in_store
from scanflow_serve.runtime.supply import artifact_for
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow import graph

# Opens the session of a variant; the tests' sessions fail, or wait, as they are told.
Open = Callable[[Variant, Artifact], Session]


def open_session(variant: Variant, artifact: Artifact) -> Session:
    """Return the session of *variant* by its backend.

    Raises:
        BackendError: It can't be loaded.
    """
    return registry.backend(variant.backend).open(
        artifact, precision=variant.precision, device=variant.device, threads=variant.threads
    )


@dataclass(slots=True)
class _Resident:
    session: Session
    resources: ExitStack = field(default_factory=ExitStack)


class Residents:
    """Loaded sessions by variant; for any number of threads."""

    def __init__(self, prepared: Prepared, open_one: Open = open_session) -> None:
        self._prepared = prepared
        self._open = open_one
        self._loaded: dict[Variant, _Resident] = {}
        self._lock = threading.Lock()

    def session(self, variant: Variant) -> Session:
        """Return the session of *variant*, loaded now unless it is there.

        Raises:
            BackendError: It can't be loaded.
            ArtifactError: Its converted file was removed meanwhile; prepare again.
        """
        with self._lock:
            known = self._loaded.get(variant)
            if known is None:
                known = self._loaded[variant] = self._load(variant)
            return known.session

    def _load(self, variant: Variant) -> _Resident:
        artifact = artifact_for(variant, self._prepared.artifacts[variant.model])
        with ExitStack() as stack:
            if (held := held_in_store(artifact)) is not None:
                stack.callback(held.close)
            session = self._open(variant, artifact)
            stack.callback(session.close)
            return _Resident(session, stack.pop_all())

    def variants(self) -> tuple[Variant, ...]:
        """Return what is loaded."""
        return tuple(self._loaded)

    def take_all_but(self, kept: Collection[Variant]) -> list[Callable[[], None]]:
        """Forget all but *kept*; return what closes the others, to be called in any thread."""
        with self._lock:
            gone = [variant for variant in self._loaded if variant not in kept]
            return [self._loaded.pop(variant).resources.close for variant in gone]

    def close(self) -> None:
        """Close every session."""
        for close in self.take_all_but(()):
            close()


def figures(candidate: Candidate, measurements: Measurements) -> Measurement | None:
    """Return the figures of *candidate*, None if there are none.

    A model by itself and a workflow that is one slot and nothing else run the same call: where
    one was measured, the other need not be.
    """
    if (found := measurements.measured.get(candidate.id)) is not None:
        return found
    if not candidate.run.startswith(graph.MODEL_PREFIX):
        return None
    alike = f":{candidate.variant_id}"
    return next((m for key, m in measurements.measured.items() if key.endswith(alike)), None)


def memory_mb(variants: Collection[Variant], prepared: Prepared) -> float:
    """Return what *variants* take together, each once, in MiB: measured, else its file's size."""
    return sum(_memory_mb(variant, prepared) for variant in dict.fromkeys(variants))


def _memory_mb(variant: Variant, prepared: Prepared) -> float:
    alone = Candidate(graph.model_alternative(variant.model).name, (variant,))
    measured = figures(alone, prepared.measurements)
    if measured is not None:
        return measured.memory_mb
    artifacts: Sequence[Artifact] = prepared.artifacts.get(variant.model, ())
    return artifact_for(variant, artifacts).size_bytes / 2**20 if artifacts else 0.0
