"""What answers: a candidate over loaded sessions, behind the face that its lane shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scanflow_serve.policies.errors import WorkflowError
from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime import validation
from scanflow_serve.runtime.engine.lanes import Kind, LanePlan, servable
from scanflow_serve.runtime.engine.residents import Residents, figures
from scanflow_serve.runtime.measurements import Measurement
from scanflow_serve.runtime.prepared import Prepared
from scanflow_serve.runtime.supply import class_names
from scanflow_serve.runtime.tensors import OutputKind, Signature
from scanflow_serve.runtime.variants import Candidate
from scanflow_serve.runtime.workflow import graph
from scanflow_serve.runtime.workflow.bridging import Face, bridged
from scanflow_serve.runtime.workflow.pipeline import Pipeline, build

SAMPLE_ROWS = 4  # one would hide a step that sums over the batch


@dataclass(slots=True, eq=False)
class Answerer:
    """One candidate in one lane, ready to answer.

    Attributes:
        variant: `Candidate.variant_id`.
        model: Names of its models, joined by ``+``; "" for Python steps alone.
        version: The model's version; "1" if several models or none answer.
        labels: Class names in output order, None if neither the policy nor the source has any.
        floats: Names of the outputs that can hold NaN.
        place: Where its calls are counted, see `black_box`; -1: nowhere.
        running: Calls on worker threads.
        used: When it answered last, by `time.perf_counter`; 0 if it never did.
        retired: It is in no lane any more, and is closed when its last call has ended.
    """

    candidate: Candidate
    pipeline: Pipeline
    measurement: Measurement | None
    variant: str
    model: str
    version: str
    labels: tuple[str, ...] | None
    floats: tuple[str, ...]
    place: int = -1
    running: int = 0
    used: float = 0.0
    retired: bool = False

    @property
    def accuracy(self) -> float | None:
        """Return its accuracy, measured or declared; None if unknown."""
        return None if self.measurement is None else self.measurement.accuracy


@dataclass(frozen=True, slots=True)
class Served:
    """One public name.

    Attributes:
        model: Names of the models that answer first, joined by ``+``; "" for Python steps alone.
        version: The model's version; "1" if several models or none answer.
        pipeline: Of what answers first; all that may answer have its signature.
        labels: Class names in output order, None if neither the policy nor the source has any.
        lane: What is asked for under this name, see `lanes.LanePlan`.
    """

    name: str
    kind: Kind
    model: str
    version: str
    pipeline: Pipeline
    measurement: Measurement | None
    labels: tuple[str, ...] | None
    lane: str = ""

    @property
    def signature(self) -> Signature:
        """Return the public inputs and outputs."""
        return self.pipeline.signature


@dataclass(slots=True)
class Builder:
    """Makes answerers, each once for its lane; a lane keeps the face that it began with.

    Attributes:
        notes: Why a candidate stands by for nothing.
    """

    prepared: Prepared
    residents: Residents
    notes: list[str] = field(default_factory=list)
    _faces: dict[str, Face] = field(default_factory=dict)
    _sample: validation.Rows | None = None

    def __post_init__(self) -> None:
        """Read the few validation rows from which Python steps learn dtypes and shapes."""
        self._sample = _sample(self.prepared.policy_file)

    def lane(
        self, lane: LanePlan, known: Mapping[Candidate, Answerer]
    ) -> dict[Candidate, Answerer]:
        """Return who answers in *lane*: those *known* as they are, the others made now.

        An alternative whose inputs and outputs don't correspond is left out, with a note.

        Raises:
            BackendError: A session can't be opened.
            WorkflowError: A Python step can't be imported or failed on the sample row.
        """
        found: dict[Candidate, Answerer] = {}
        for candidate in lane.candidates:
            if candidate in known:
                found[candidate] = known[candidate]
                continue
            pipeline = self._pipeline(candidate)
            face = self._faces.get(lane.name)
            if face is None:
                face = Face.of(pipeline, self._kind(pipeline, lane))
                self._faces[lane.name] = face
            try:
                found[candidate] = self._answerer(candidate, bridged(pipeline, face))
            except WorkflowError as error:
                if str(error) not in self.notes:
                    self.notes.append(str(error))
        return found

    def _pipeline(self, candidate: Candidate) -> Pipeline:
        return build(
            self.prepared.policy_file,
            graph.alternative(self.prepared.policy_file.policy, candidate.run),
            candidate,
            [self.residents.session(variant) for variant in candidate.variants],
            signatures={name: each[0].signature for name, each in self.prepared.artifacts.items()},
            kinds=self.prepared.kinds,
            sample=self._sample,
        )

    def _kind(self, pipeline: Pipeline, lane: LanePlan) -> OutputKind:
        """Return what the lane's classification output is to hold, whatever answers.

        Alternatives may differ. Measurements tell, as most of them are not loaded yet.
        """
        plan, own = self.prepared.plan, pipeline.kind
        if lane.name != plan.policy or own != "logits":
            return own
        others = [v.measurement.kind for v in plan.verdicts if v.measurement and servable(plan, v)]
        return "probabilities" if "probabilities" in others else own

    def _answerer(self, candidate: Candidate, pipeline: Pipeline) -> Answerer:
        policy = self.prepared.policy_file.policy
        models = [policy.models[name] for name in candidate.models]
        given = (
            class_names(policy.models[name], self.prepared.artifacts[name])
            for name in candidate.models
        )
        return Answerer(
            candidate=candidate,
            pipeline=pipeline,
            measurement=figures(candidate, self.prepared.measurements),
            variant=candidate.variant_id,
            model="+".join(dict.fromkeys(candidate.models)),
            version=models[0].version if len(models) == 1 else "1",
            labels=next((names for names in given if names), None),
            floats=tuple(s.name for s in pipeline.signature.outputs if "float" in s.dtype),
        )


def named(lane: LanePlan, first: Answerer) -> dict[str, Served]:
    """Return what answers to each name of *lane*, *first* before others."""
    return {
        name: Served(
            name=name,
            kind=kind,
            model=first.model,
            version=first.version,
            pipeline=first.pipeline,
            measurement=first.measurement,
            labels=first.labels,
            lane=lane.name,
        )
        for name, kind in lane.names
    }


def _sample(policy_file: PolicyFile) -> validation.Rows | None:
    data = policy_file.policy.validation
    if data is None:
        return None
    return validation.load_rows(data.model_copy(update={"samples": SAMPLE_ROWS}), policy_file)
