from __future__ import annotations

from planning_worlds import measurement

from scanflow_serve.runtime.candidates import Listing
from scanflow_serve.runtime.combinations import MAX_COMBINATIONS, combined
from scanflow_serve.runtime.measurements import Measurements, Refusal
from scanflow_serve.runtime.variants import Candidate
from scanflow_serve.runtime.workflow.graph import Slot


def alone(*models: str) -> tuple[Candidate, ...]:
    return tuple(Candidate.from_id(f"model:{m}:{m}/onnxruntime-fp32x1") for m in models)


def combine(figures, slots, refused=None, goal="accuracy", limits=None):
    singles = alone(*figures)
    measured = dict(zip((c.id for c in singles), figures.values(), strict=True))
    listing = Listing(singles, refused or {})
    known = Measurements("here", measured, {})
    places = [Slot(f"s{i}", tuple(models)) for i, models in enumerate(slots)]
    return combined("both", places, listing, known, goal, limits or {})


def models(listing):
    return [c.models for c in listing.open]


def test_variants_that_another_beats_stay_out_of_the_product_with_figures() -> None:
    figures = {
        "fast": measurement(1.0, 0.9),
        "exact": measurement(5.0, 0.99),
        "bad": measurement(6.0, 0.8),
    }
    listing = combine(figures, [["fast", "exact", "bad"], ["fast"]])
    assert sorted(models(listing)) == [("exact", "fast"), ("fast", "fast")]
    refusal = listing.refused["model:bad:bad/onnxruntime-fp32x1"]
    assert refusal.code == "dominated"
    assert "alone no better than exact/onnxruntime-fp32x1" in refusal.reason
    assert "accuracy 0.800 against 0.990" in refusal.reason


def test_combinations_come_best_first_by_the_goal() -> None:
    figures = {"fast": measurement(1.0, 0.9), "exact": measurement(5.0, 0.99)}
    slots = [["fast", "exact"], ["fast", "exact"]]
    assert models(combine(figures, slots))[0] == ("exact", "exact")
    assert models(combine(figures, slots, goal="latency_p95_ms"))[0] == ("fast", "fast")
    limited = combine(figures, slots, limits={"max_latency_p95_ms": 3.0})
    assert models(limited)[0] == ("fast", "fast")


def test_product_stays_small_and_keeps_the_best_and_the_fastest() -> None:
    figures = {f"m{n:02}": measurement(1.0 + n, 0.5 + n / 100) for n in range(20)}
    listing = combine(figures, [list(figures), list(figures)])
    assert 1 < len(listing.open) <= MAX_COMBINATIONS
    assert models(listing)[0] == ("m19", "m19")
    assert ("m00", "m00") in models(listing)
    dropped = [r for r in listing.refused.values() if r.code == "budget"]
    listed = {v.model for c in listing.candidates for v in c.variants}
    assert dropped
    assert listed == set(figures)


def test_slot_without_a_usable_variant_leaves_no_combination() -> None:
    gone = {"model:exact:exact/onnxruntime-fp32x1": Refusal("failed", "is corrupt")}
    figures = {"fast": measurement(), "exact": measurement()}
    listing = combine(figures, [["fast"], ["exact"]], refused=gone)
    assert listing.open == ()
    assert [listing.refused[c.id].reason for c in listing.candidates] == [
        "no variant can be used at s1",
        "is corrupt",
    ]
