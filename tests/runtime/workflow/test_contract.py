"""Every target of the contract's fleet policy, on real sessions."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from scanflow_serve.converters.sources import ingest
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.backends.registry import backend
from scanflow_serve.runtime.tensors import Array
from scanflow_serve.runtime.validation import Rows, load_rows, score
from scanflow_serve.runtime.variants import Candidate, Variant
from scanflow_serve.runtime.workflow import graph
from scanflow_serve.runtime.workflow.pipeline import Pipeline, build

CONTRACT = Path(__file__).parents[2] / "contract"
# README.md of the contract: accuracy on the 497 rows of the test set.
ACCURACY = {
    "digits-linear": 0.948,
    "digits-mlp": 0.976,
    "digits-cnn": 0.996,
    "digits-cnn-large": 0.996,
}


@cache
def fleet() -> PolicyFile:
    return load_policy(CONTRACT / "targets.yaml")


@cache
def artifacts() -> dict[str, Artifact]:
    return {name: ingest(name, model, fleet()) for name, model in fleet().policy.models.items()}


@cache
def validation_rows() -> Rows:
    assert fleet().policy.validation
    return load_rows(fleet().policy.validation, fleet())


def unseen() -> tuple[Rows, Array]:
    with np.load(CONTRACT / "data" / "digits-test.npz") as file:
        return Rows({"pixels": file["pixels"]}, None, len(file["label"])), file["label"]


def served(
    request: pytest.FixtureRequest, run: str, *models: str, library: str = "onnxruntime"
) -> Pipeline:
    alternative = graph.alternative(fleet().policy, run)
    sessions = [
        backend(library).open(artifacts()[name], precision="fp32", device="CPU", threads=1)
        for name in models
    ]
    for session in sessions:
        request.addfinalizer(session.close)
    return build(
        fleet(),
        alternative,
        Candidate(alternative.name, tuple(Variant(name, library, "fp32") for name in models)),
        sessions,
        signatures={name: artifact.signature for name, artifact in artifacts().items()},
        sample=validation_rows(),
    )


def accuracy(pipeline: Pipeline) -> float:
    rows, labels = unseen()
    outputs = pipeline.run(pipeline.inputs(rows))
    return score("accuracy", pipeline.classification(outputs), labels)


@pytest.mark.parametrize(
    ("run", "model", "output", "kind"),
    [
        ("A", "digits-linear", "probabilities", "probabilities"),
        ("B1", "digits-mlp", "logits", "logits"),
        ("B2", "digits-cnn", "logits", "logits"),
        ("C1>C2>C3", "digits-mlp", "softmax", "probabilities"),
        ("C1>C2>C3", "digits-cnn", "softmax", "probabilities"),
        ("C1>C2>C3", "digits-cnn-large", "softmax", "probabilities"),
        ("model:digits-linear", "digits-linear", "probabilities", "probabilities"),
    ],
)
def test_run_classifies_as_well_as_its_model(request, run, model, output, kind):
    pipeline = served(request, run, model)
    assert (pipeline.output, pipeline.kind) == (output, kind)
    assert accuracy(pipeline) == pytest.approx(ACCURACY[model], abs=6e-4)


@pytest.mark.parametrize("model", ["digits-mlp", "digits-cnn", "digits-cnn-large"])
def test_run_classifies_as_well_on_openvino(request, model):
    pipeline = served(request, "C1>C2>C3", model, library="openvino")
    assert accuracy(pipeline) == pytest.approx(ACCURACY[model], abs=6e-4)


def test_committee_is_better_than_each_of_its_members(request):
    members = ("digits-mlp", "digits-cnn", "digits-cnn-large")
    pipeline = served(request, "committee", *members)
    assert (pipeline.output, pipeline.kind) == ("softmax", "probabilities")
    assert accuracy(pipeline) > max(ACCURACY[name] for name in members)


def test_committee_averages_the_logits_of_its_members(request):
    members = ("digits-mlp", "digits-cnn", "digits-cnn-large")
    rows, _ = unseen()
    inputs = {"pixels": rows.inputs["pixels"][:5]}
    alone = [served(request, f"model:{name}", name).run(inputs)["logits"] for name in members]
    exp = np.exp(np.mean(alone, axis=0))
    together = served(request, "committee", *members).run(inputs)["softmax"]
    np.testing.assert_allclose(together, exp / exp.sum(axis=1, keepdims=True), atol=1e-5)


def test_every_target_has_the_alternatives_that_it_names():
    policy = fleet().policy
    names = [[a.name for a in graph.alternatives(policy, t.run)] for t in policy.targets]
    assert names == [["A"], ["B1", "B2"], ["committee"], ["C1>C2>C3"]]


def test_slots_stand_in_execution_order_at_their_places_in_the_policy():
    policy = fleet().policy
    found = graph.slots(policy, graph.alternative(policy, "committee"))
    assert [(slot.path, slot.models) for slot in found] == [
        ("workflows.committee.steps[1].parallel[0]", ("digits-mlp",)),
        ("workflows.committee.steps[1].parallel[1]", ("digits-cnn",)),
        ("workflows.committee.steps[1].parallel[2]", ("digits-cnn-large",)),
    ]


def test_a_single_model_runs_the_session_itself(request):
    pipeline = served(request, "B1", "digits-mlp")
    assert type(pipeline.run.__self__).__module__ == "scanflow_serve.runtime.backends.ort"  # type: ignore[attr-defined]
