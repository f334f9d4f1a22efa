from __future__ import annotations

from planning_worlds import candidate, host, measurement, policy

from scanflow_serve.runtime.explain import sentence
from scanflow_serve.runtime.measurements import Measurements
from scanflow_serve.runtime.selection import select
from scanflow_serve.runtime.variants import Candidate

FIGURES = {
    "cnn/openvino-bf16x1": measurement(0.11, 0.99),
    "mlp/onnxruntime-fp32x2": measurement(0.01, 0.97),
}


def explained(figures=None, **sections):
    figures = figures or FIGURES
    everyone = [candidate(text) for text in figures]
    known = {candidate(text).id: m for text, m in figures.items()}
    return sentence(select(policy(**sections), host(), 0, everyone, Measurements("h", known)))


def test_sentence_says_what_by_what_and_within_which_bounds() -> None:
    assert explained() == (
        "cnn on openvino in bf16 with 1 thread: most accurate (0.990 on 300 rows) of 2 measured "
        "candidates within latency p95 <= 20 ms (measured 0.11 ms)."
    )


def test_sentence_of_the_fastest_counts_its_threads() -> None:
    assert explained(objective={"minimize": "latency_p95_ms"}) == (
        "mlp on onnxruntime in fp32 with 2 threads: fastest (0.01 ms) of 2 measured candidates."
    )


def test_sentence_of_the_balanced_choice() -> None:
    text = explained(scheduling={"prefer": "balanced"})
    assert "best balance of accuracy, latency and memory of 2 measured candidates" in text


def test_sentence_of_best_effort_does_not_claim_the_bounds() -> None:
    text = explained(
        objective={
            "maximize": "accuracy",
            "subject_to": {"max_latency_p95_ms": 0.001},
            "on_infeasible": "best_effort",
        }
    )
    assert text == (
        "mlp on onnxruntime in fp32 with 2 threads: nearest to the constraints of 2 measured "
        "candidates, none of which meets latency p95 <= 0.001 ms (measured 0.01 ms)."
    )


def test_sentence_of_declared_accuracy_says_so() -> None:
    figures = {"cnn/openvino-bf16x1": measurement(0.11, 0.99, accuracy_rows=0, declared=True)}
    assert "most accurate (0.990 declared) and the only one measured" in explained(figures)


def test_sentence_of_a_run_without_a_model_names_the_workflow() -> None:
    only = Candidate("classify", ())
    known = Measurements("h", {only.id: measurement()})
    text = sentence(select(policy(), host(), 0, [only], known))
    assert text.startswith("workflow classify: most accurate")
