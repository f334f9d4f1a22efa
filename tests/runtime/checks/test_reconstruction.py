from __future__ import annotations

import logging

import numpy as np
import pytest
from detector_worlds import CHANNELS, DIGITS, digits_reference, live, pixels, sines

from scanflow_serve.runtime.checks.recipes import Recipe, detector_key, recipe
from scanflow_serve.runtime.checks.reconstruction import (
    PcaError,
    ReconstructionError,
    reconstruction,
)
from scanflow_serve.runtime.checks.rows import Reference, Setting
from scanflow_serve.runtime.checks.scored import ScoreMember
from scanflow_serve.runtime.checks.sequences import MOST_SESSIONS, Buffers
from scanflow_serve.runtime.tensors import Signature, TensorSpec


def fitted(score: ReconstructionError) -> ReconstructionError:
    score.fit(digits_reference())
    return score


def test_pca_redraws_normal_digits_better_than_noise() -> None:
    score = fitted(PcaError(DIGITS))
    normal = score.score(live("pixels", pixels("validation")))
    noise = np.random.default_rng(0).uniform(0, 16, (100, 64)).astype(np.float32)
    assert np.median(score.score(live("pixels", noise))) > np.quantile(normal, 0.99)


def test_constant_features_count_nothing() -> None:
    reference = digits_reference()
    constant = np.flatnonzero(reference.inputs["pixels"].std(axis=0) == 0)
    assert len(constant)
    score = fitted(PcaError(DIGITS))
    rows = pixels("validation")
    changed = rows.copy()
    changed[:, constant] = 9.0
    np.testing.assert_array_equal(
        score.score(live("pixels", rows)), score.score(live("pixels", changed))
    )


def test_restored_pca_scores_as_before() -> None:
    score, again = fitted(PcaError(DIGITS)), PcaError(DIGITS)
    again.restore(score.state())
    rows = live("pixels", pixels("validation"))
    np.testing.assert_array_equal(score.score(rows), again.score(rows))


def test_latent_has_a_column_for_each_component() -> None:
    score = fitted(PcaError(DIGITS, components=7))
    assert score.latent(live("pixels", pixels("validation"))).shape == (300, 7)


def test_features_whose_errors_moved_are_told() -> None:
    score = fitted(PcaError(DIGITS))
    odd = pixels("validation").copy()
    odd[:, 20] = np.random.default_rng(0).uniform(0, 16, len(odd))
    score.score(live("pixels", odd))
    assert score.moved()[0]["name"] == "reconstruction error of pixels[20]"


def test_row_that_is_no_number_has_no_score() -> None:
    row = pixels("validation")[:1].copy()
    row[0, 5] = np.nan
    assert np.isnan(fitted(PcaError(DIGITS)).score(live("pixels", row))).all()


def test_wild_value_ranks_above_every_other() -> None:
    row = pixels("validation")[:1].copy()
    row[0, 20] = 1e30
    score = fitted(PcaError(DIGITS))
    normal = score.score(live("pixels", pixels("validation")))
    assert normal.max() < score.score(live("pixels", row))[0] < np.inf


def test_without_a_trained_one_pca_stands_in_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    score = ReconstructionError(DIGITS, recipe("autoencoder"), find=lambda key: None)
    with caplog.at_level(logging.WARNING):
        fitted(score)
    assert not score.trained
    assert "autoencoder: PCA stands in: none was trained on these rows." in caplog.text


def test_detector_that_has_gone_is_not_restored_as_another() -> None:
    state = dict(fitted(PcaError(DIGITS)).state())
    del state["mean"]
    again = ReconstructionError(DIGITS, recipe("autoencoder"), find=lambda key: None)
    with pytest.raises(ValueError, match=r"the trained detector .* is gone\. Fit again\."):
        again.restore(state)


def test_score_that_is_not_fitted_says_so() -> None:
    with pytest.raises(ValueError, match="pca: must be fitted before it scores rows"):
        PcaError(DIGITS).score(live("pixels", pixels("validation")))


@pytest.mark.parametrize(
    ("method", "settings", "text"),
    [
        ("mlp", {}, "method must be one of pca, autoencoder, window_dense, lstm, got 'mlp'"),
        ("autoencoder", {"steps": 8}, "steps must come with method window_dense, lstm or pca"),
        ("pca", {"epochs": 8}, "epochs must come with method autoencoder, window_dense, lstm"),
        ("lstm", {"steps": 1}, "steps must be >= 2, got 1"),
        ("pca", {"components": 0}, "components must be >= 1, got 0"),
    ],
)
def test_setting_of_another_method_is_refused(
    method: str, settings: dict[str, int], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        reconstruction(DIGITS, method, **settings)


def test_bottleneck_is_at_most_a_quarter() -> None:
    with pytest.raises(ValueError, match=r"components must be <= 64 features .* = 16, got 17"):
        Recipe("pca", components=17).bottleneck(64)
    assert all(Recipe("pca").bottleneck(n) <= n / 4 for n in range(1, 2000))


def test_text_has_no_reconstruction() -> None:
    text = Setting(Signature((TensorSpec("city", "str", (None, 1)),), ()))
    with pytest.raises(ValueError, match="input must name an input of numbers, got \\['city'\\]"):
        PcaError(text)


def test_address_follows_rows_settings_and_stretches() -> None:
    rows = sines(100, 0)
    keys = {
        detector_key(recipe("lstm"), rows, None),
        detector_key(recipe("lstm"), rows[:99], None),
        detector_key(recipe("lstm", steps=8), rows, None),
        detector_key(recipe("lstm"), rows, np.arange(100) // 50),
        detector_key(recipe("window_dense"), rows, None),
    }
    assert len(keys) == 5


def test_windows_follow_their_own_session() -> None:
    buffers = Buffers(3, 1)
    one, other = np.arange(5.0, dtype=np.float32), np.arange(10.0, 15.0, dtype=np.float32)
    assert not buffers.cut("one", one[:2, None]).whole.any()
    assert not buffers.cut("other", other[:2, None]).whole.any()
    cut = buffers.cut("one", one[2:, None])
    assert cut.windows[:, :, 0].tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert cut.apart.tolist() == [True, False, False]


def test_rows_one_by_one_give_the_windows_of_rows_at_once() -> None:
    rows = sines(40, 0)
    at_once = Buffers(8, 4).cut("", rows)
    buffers = Buffers(8, 4)
    single = [buffers.cut("", rows[place : place + 1]) for place in range(40)]
    np.testing.assert_array_equal(np.concatenate([cut.windows for cut in single]), at_once.windows)
    assert [bool(cut.apart[0]) for cut in single] == at_once.apart.tolist()


def test_sessions_are_bounded() -> None:
    buffers = Buffers(2, 1)
    for number in range(MOST_SESSIONS + 50):
        buffers.cut(str(number), np.zeros((1, 1), np.float32))
    assert len(buffers) == MOST_SESSIONS
    assert not buffers.cut("0", np.zeros((1, 1), np.float32)).whole.any()  # was forgotten


def test_windows_of_rows_in_no_order_are_refused() -> None:
    score = PcaError(CHANNELS, steps=8)
    with pytest.raises(ValueError, match="reference must be in order of time"):
        score.fit(Reference({"sensor": sines(1000, 0)}))


def test_windows_do_not_span_the_gaps_between_blocks() -> None:
    reference = Reference({"sensor": sines(100, 0)}, ordered=True)
    taken = reference.take(np.r_[0:10, 20:30, 30:40])
    assert taken.run is not None
    assert taken.run.tolist() == [0] * 10 + [1] * 20
    assert taken.take(np.r_[5:15]).run.tolist() == [0] * 5 + [1] * 5  # type: ignore[union-attr]


@pytest.mark.parametrize("change", [{"faster": 1.3}, {"coupled": False}])
def test_windowed_pca_sees_what_no_row_shows(change: dict[str, float]) -> None:
    member = ScoreMember("pca", PcaError(CHANNELS, steps=32))
    member.fit(Reference({"sensor": sines(24_000, 0)}, ordered=True))
    clean = member.rank(live("sensor", sines(2000, 1), "clean"))
    assert clean is not None
    assert clean.path.max() < np.log(10_000)
    moved = member.rank(live("sensor", sines(2000, 2, **change), "moved"))  # type: ignore[arg-type]
    assert moved is not None
    assert moved.path.max() >= np.log(10_000)
