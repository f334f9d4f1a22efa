"""A policy of one model, from what a person says of it on the command line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.policies.loader import PolicyFile, load_policy
from scanflow_serve.policies.schema import API_VERSION, CONSENT, InputDtype

FACTORY = "torch:"
_INPUT = re.compile(r"(?P<name>.+?):(?P<shape>-?\d+(?:,-?\d+)*)(?::(?P<dtype>\w+))?")


@dataclass(frozen=True, slots=True)
class Given:
    """What a person says of a source, as a policy would.

    Attributes:
        data: Rows: the file, the arrays that are inputs, and the one with the labels.
        takes: Inputs, ``NAME:-1,64[:DTYPE]`` each; see `declared`.
        consent: The words of ``trust_pickle``.
    """

    data: Path | None = None
    inputs: Sequence[str] = ()
    target: str | None = None
    weights: Path | None = None
    takes: Sequence[str] = ()
    consent: str | None = None


def policy_or_source(source: str, given: Given) -> PolicyFile:
    """Return the policy file *source*, or a policy of the source *source*.

    Raises:
        UsageError: Something is given although the policy says it itself, or it does not fit.
        PolicyError: The policy has faults.
    """
    if not source.endswith((".yaml", ".yml")):
        return policy_of(source, given)
    options = {
        "--data": given.data,
        "--input": given.inputs,
        "--target": given.target,
        "--weights": given.weights,
        "--inputs": given.takes,
        "--trust-pickle": given.consent,
    }
    if wrong := [name for name, value in options.items() if value]:
        raise UsageError(
            f"{', '.join(wrong)} must be given with a model source, got the policy {source}. "
            "Write it in the policy."
        )
    return load_policy(Path(source))


def policy_of(source: str, given: Given) -> PolicyFile:
    """Return a policy of the one model *source*, calibrated and validated on the data given.

    Raises:
        UsageError: What is given does not fit the source, or is malformed.
        PolicyError: The data file lacks what is named.
    """
    import yaml

    folder = _folder(source, given)
    here = _within(folder, Path(source), "the source") if Path(source).exists() else source
    name = _name(source)
    policy: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "name": f"convert.{name}",
        "models": {name: {"source": here, **_model(source, given, folder)}},
        "targets": [{"run": f"run.{name}"}],
        "workflows": {f"run.{name}": {"steps": [{"model": name}]}},
        "objective": {"minimize": "latency_p95_ms"},
    }
    if given.data is not None:
        rows = {"data": _within(folder, given.data, "--data")}
        named = {"input": list(given.inputs)} if given.inputs else {}
        policy["calibration"] = {**rows, **named}
        if given.target is not None:
            policy["validation"] = {**rows, **named, "target": given.target}
    return load_policy(folder / "convert.yaml", text=yaml.safe_dump(policy, sort_keys=False))


def _folder(source: str, given: Given) -> Path:
    """Return where the policy is to lie: all files must be within, and a factory's module in it."""
    if source.startswith(FACTORY):
        return Path.cwd()
    files = (Path(source), given.data, given.weights)
    parents = [each.absolute().parent for each in files if each is not None and each.exists()]
    return Path(os.path.commonpath(parents)) if parents else Path.cwd()


def _within(folder: Path, path: Path, what: str) -> str:
    absolute = Path(os.path.normpath(path.absolute()))
    if not absolute.is_relative_to(folder):
        raise UsageError(
            f"{what} must lie in {folder}, where the source's module is sought, got {path}. "
            "Copy it there, or run this in a folder that has both."
        )
    return absolute.relative_to(folder).as_posix()


def _model(source: str, given: Given, folder: Path) -> dict[str, Any]:
    """Return what a policy would say of the model besides its source."""
    model: dict[str, Any] = {}
    if given.weights is not None:
        if not source.startswith(FACTORY):
            raise UsageError(
                f"--weights must be given with torch:module:factory, got the source {source}. "
                "Leave it out: the file has its weights."
            )
        model["weights"] = _within(folder, given.weights, "--weights")
    if given.takes:
        model["inputs"] = dict(map(declared, given.takes))
    if given.consent is not None:
        if given.consent != CONSENT:
            raise UsageError(
                f"--trust-pickle must be the words {CONSENT!r}, got {given.consent!r}. Give them "
                "if you know who wrote the file: it runs what its author put into it."
            )
        model["trust_pickle"] = given.consent
    return model


def declared(text: str) -> tuple[str, dict[str, Any]]:
    """Return name and description of an input, ``NAME:SHAPE[:DTYPE]``.

    Raises:
        UsageError: *text* does not read so.

    >>> declared("pixels:-1,64")
    ('pixels', {'shape': [-1, 64]})
    """
    match = _INPUT.fullmatch(text)
    dtypes = get_args(InputDtype)
    if match is None or match["dtype"] not in (None, *dtypes):
        raise UsageError(
            "--inputs must read NAME:SHAPE or NAME:SHAPE:DTYPE, with a shape such as -1,64 (the "
            f"first is the batch; -1: any size) and a dtype of {', '.join(dtypes)}, got {text!r}. "
            "For example: --inputs pixels:-1,64:float32"
        )
    shape: dict[str, Any] = {"shape": [int(size) for size in match["shape"].split(",")]}
    return match["name"], shape | ({"dtype": match["dtype"]} if match["dtype"] else {})


def _name(source: str) -> str:
    """Return what a model from *source* may be named.

    >>> _name("models/digits-cnn.onnx"), _name("torch:nets:net"), _name("models:/digits@best")
    ('digits-cnn', 'torch-nets-net', 'models-digits-best')
    """
    text = Path(source).stem if Path(source).suffix and ":" not in source else source
    return re.sub(r"[^A-Za-z0-9._]+", "-", text).strip("-._")[:50] or "model"
