"""Our own types of checks, found by entry point as any other: ``anomaly``, ``drift``, ``balance``.

``drift`` is a portfolio by default. Measured on 21 shifts of digits, no detector alone sees them
all: noise on a tenth of the traffic shows in the autoencoder's error and nowhere else, a class
that stays away in the classes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from scanflow_serve.runtime.checks.classes import ClassMember
from scanflow_serve.runtime.checks.confidence import Uncertainty
from scanflow_serve.runtime.checks.members import Member, Stake
from scanflow_serve.runtime.checks.portfolio import Portfolio
from scanflow_serve.runtime.checks.protocol import Score
from scanflow_serve.runtime.checks.rows import Setting
from scanflow_serve.runtime.checks.scored import ScoreMember
from scanflow_serve.runtime.checks.statistics.promise import ALPHA
from scanflow_serve.runtime.checks.strata import Strata

# method -> module:factory(setting, method), read without importing anything
SCORES: dict[str, str] = {
    "confidence": "confidence:uncertainty",
    "entropy": "confidence:uncertainty",
    "pca": "reconstruction:reconstruction",
    "autoencoder": "reconstruction:reconstruction",
    "window_dense": "reconstruction:reconstruction",
    "lstm": "reconstruction:reconstruction",
}
WINDOWED = ("ks", "psi", "chi2", "js", "wasserstein", "mmd")
# Of a portfolio's wealth; members that a run has no use for leave theirs to the others.
SHARES = {"method": 0.4, "confidence": 0.2, "classes": 0.2, "features": 0.2}


def anomaly(
    setting: Setting, *, method: str = "autoencoder", alpha: float = ALPHA, **settings: Any
) -> Portfolio:
    """Return a check that flags a share *alpha* of normal rows, by the score of *method*.

    Raises:
        ValueError: The method is unknown, or *alpha* is no share.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha!r}. Give a share, such as 0.01.")
    strata = strata_of(setting)
    score = score_of(method, setting, **settings)
    member = ScoreMember(method, score, seed=setting.seed, strata=strata)
    return Portfolio(setting, [Stake(member, 1.0)], "anomaly", alpha)


def drift(
    setting: Setting,
    *,
    method: str = "autoencoder",
    members: Sequence[str] | None = None,
    window: int = 200,
    strict: bool = False,
    max_age_s: float | None = None,
    alpha: float = ALPHA,
    **settings: Any,
) -> Portfolio:
    """Return a check that bets on a change of what *method* sees, and of what the others see.

    Args:
        members: Which others: of ``confidence``, ``classes``, ``features``. Default: all that the
            run has a use for; none where *method* is one of windows, or rows come in strata or
            blocks, by which only scores can be divided.
        window: Rows of a window.
        max_age_s: Close a window at this age, in s; by default none is closed before it is full.
        strict: Rank for the luck of the calibration set, too: costs delay.

    Raises:
        ValueError: The method or a member is unknown, or can't be divided.
    """
    _require_divisible(setting, method, members or ())
    wanted = _others(setting, method) if members is None else tuple(members)
    if unknown := set(wanted) - (SHARES.keys() - {"method"}):
        raise ValueError(
            f"members must be of confidence, classes, features, got {sorted(unknown)[0]!r}."
        )
    found: dict[str, Member] = {
        "method": _member(method, setting, (window, max_age_s), strict, settings)
    }
    if "confidence" in wanted:
        found["confidence"] = scored("confidence", Uncertainty(), setting, strict)
    if "classes" in wanted:
        found["classes"] = ClassMember(setting.classes)
    if "features" in wanted:
        found["features"] = _member("ks", setting, (window, max_age_s), strict, {})
    total = sum(SHARES[name] for name in found)
    stakes = [Stake(member, SHARES[name] / total) for name, member in found.items()]
    return Portfolio(setting, stakes, "drift", alpha)


def balance(setting: Setting, **settings: Any) -> Portfolio:
    """Return a check that bets on a change of the classes' shares.

    Raises:
        ValueError: There are settings; it has none.
    """
    if settings:
        raise ValueError(f"balance has no setting {next(iter(settings))!r}. Remove it.")
    return Portfolio(setting, [Stake(ClassMember(setting.classes), 1.0)], "balance")


def score_of(method: str, setting: Setting, **settings: Any) -> Score:
    """Return the score of *method*.

    Raises:
        ValueError: The method is unknown, or refuses its settings.
    """
    if method not in SCORES:
        raise ValueError(f"method must be one of {', '.join(SCORES)}, got {method!r}.")
    module, factory = SCORES[method].split(":")
    make = getattr(import_module(f"scanflow_serve.runtime.checks.{module}"), factory)
    try:
        score: Score = make(setting, method, **settings)
    except TypeError as error:
        raise ValueError(f"settings must be those of method {method!r}: {error}.") from None
    return score


def scored(name: str, score: Score, setting: Setting, strict: bool = False) -> ScoreMember:
    """Return the detector that bets on *score*, by the strata and blocks of *setting*."""
    return ScoreMember(name, score, setting.seed, strict, strata_of(setting), setting.block)


def strata_of(setting: Setting) -> Strata | None:
    """Return what rows are divided by, None if by nothing."""
    return Strata(setting.strata) if setting.strata else None


def _require_divisible(setting: Setting, method: str, members: Sequence[str]) -> None:
    if not (setting.strata or setting.block):
        return
    key = "strata" if setting.strata else "block"
    whole = [name for name in (method, *members) if name in (*WINDOWED, "classes", "features")]
    if whole:
        raise ValueError(
            f"{key} must come with methods and members that score rows, got {whole[0]!r}. "
            "Remove it, or choose members of confidence."
        )


def _others(setting: Setting, method: str) -> tuple[str, ...]:
    if method in WINDOWED or setting.strata or setting.block:
        return ()
    classifies = any(
        len(spec.shape) == 2 and spec.shape[1] not in (None, 1) and spec.dtype.startswith("float")
        for spec in setting.signature.outputs
    )
    return ("confidence", "classes", "features") if classifies else ("features",)


def _member(
    method: str,
    setting: Setting,
    window: tuple[int, float | None],
    strict: bool,
    settings: dict[str, Any],
) -> Member:
    if method in WINDOWED:
        windows = import_module("scanflow_serve.runtime.checks.windowed")
        member: Member = windows.WindowMember(setting, method, *window)
        return member
    return scored(method, score_of(method, setting, **settings), setting, strict)
