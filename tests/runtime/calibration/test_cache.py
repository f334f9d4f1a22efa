from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scanflow_serve.policies.loader import PolicyFile
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.calibration import cache as module
from scanflow_serve.runtime.calibration.cache import MeasurementCache, cache_key
from scanflow_serve.runtime.calibration.job import Result
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.measurements import Latency, Measurement, Refusal
from scanflow_serve.runtime.variants import Candidate, Variant

PolicyOf = Callable[..., PolicyFile]
CANDIDATE = Candidate("classify", (Variant("digits-mlp", "onnxruntime", "fp32"),))
STEPS = {"classify": {"steps": [{"python": "steps:step"}, {"model": "digits-mlp"}]}}
RESULT = Result(
    measurement=Measurement(0.1, 12.0, {1: Latency(1.0, 2.0, 30)}, 1e3, 1, 0.5, accuracy=0.9),
    outputs={
        "file": np.arange(3, dtype=np.int64),
        "y/label": np.array(["a", "ü"], dtype=object),
    },
)


def test_result_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    cache = MeasurementCache(tmp_path)
    cache.put("key", RESULT)
    got = cache.get("key")
    assert got is not None
    assert got.measurement == RESULT.measurement
    assert got.outputs is not None
    assert got.outputs["file"].dtype == np.int64
    assert got.outputs["y/label"].tolist() == ["a", "ü"]
    assert got.outputs["y/label"].dtype == np.dtype(object)


def test_unknown_key_has_no_result(tmp_path: Path) -> None:
    assert MeasurementCache(tmp_path).get("key") is None


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("data", [b"", b"{", b"null", b'{"measurement": {}, "refusal": null}'])
def test_corrupt_file_is_ignored_with_a_warning(
    tmp_path: Path, suffix: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    cache = MeasurementCache(tmp_path)
    cache.put("key", RESULT)
    (tmp_path / f"key{suffix}").write_bytes(data)
    assert cache.get("key") is None
    assert caplog.record_tuples[0][1] == logging.WARNING


@pytest.mark.parametrize(
    ("code", "kept"), [("unsupported", True), ("failed", False), ("budget", False)]
)
def test_only_lasting_refusals_are_kept(tmp_path: Path, code: str, kept: bool) -> None:
    cache = MeasurementCache(tmp_path)
    cache.put("key", Result(refusal=Refusal(code, "why")))
    assert (cache.get("key") is not None) is kept


def test_unwritable_folder_costs_one_warning_however_much_is_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    for key in ("one", "two"):
        MeasurementCache(tmp_path / "file").put(key, RESULT)
    (record,) = caplog.records
    assert f"{tmp_path / 'file'}: measurements can't be kept" in record.getMessage()
    assert "Set SCANFLOW_CACHE" in record.getMessage()


def test_key_does_not_depend_on_names_that_change_no_figure(
    policy_of: PolicyOf, host: HostProfile, artifacts: Mapping[str, tuple[Artifact, ...]]
) -> None:
    one, other = policy_of(name="one"), policy_of(name="other", description="the same")
    assert cache_key(one, host, CANDIDATE, artifacts, {}) == cache_key(
        other, host, CANDIDATE, artifacts, {}
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"scheduling": {"max_batch": 8}},
        {"scheduling": {"max_batch": 4, "default_deadline_ms": 7}},
        {"validation": None},
        {"workflows": {"classify": {"steps": [{"model": "digits-mlp"}]}}},
        {
            "validation": {
                "data": "data/digits-validation.npz",
                "input": "pixels",
                "target": "label",
                "samples": 10,
            }
        },
    ],
)
def test_key_depends_on_what_is_measured(
    policy_of: PolicyOf,
    host: HostProfile,
    artifacts: Mapping[str, tuple[Artifact, ...]],
    keys: dict[str, object],
) -> None:
    before = cache_key(policy_of(), host, CANDIDATE, artifacts, {})
    assert cache_key(policy_of(**keys), host, CANDIDATE, artifacts, {}) != before


def test_key_depends_on_host_artifact_candidate_and_tools(
    policy_of: PolicyOf,
    host: HostProfile,
    artifacts: Mapping[str, tuple[Artifact, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy_file = policy_of()
    changed = {name: (replace(each[0], id="other"),) for name, each in artifacts.items()}
    threads = Candidate("classify", (replace(CANDIDATE.variants[0], threads=2),))
    keys = [
        cache_key(policy_file, host, CANDIDATE, artifacts, {}),
        cache_key(policy_file, replace(host, cpu=Cpu(cores=1)), CANDIDATE, artifacts, {}),
        cache_key(policy_file, host, CANDIDATE, changed, {}),
        cache_key(policy_file, host, threads, artifacts, {}),
    ]
    monkeypatch.setattr(module.registry, "version", lambda *names: "99")
    keys.append(cache_key(policy_file, host, CANDIDATE, artifacts, {}))
    assert len(set(keys)) == len(keys)


def test_key_depends_on_data_and_code(
    policy_of: PolicyOf, host: HostProfile, artifacts: Mapping[str, tuple[Artifact, ...]]
) -> None:
    policy_file = policy_of(workflows=STEPS)
    keys = []
    for name, data in (("steps.py", b"1"), ("steps.py", b"2"), ("data/digits-validation.npz", b"")):
        (policy_file.folder / name).write_bytes(data)
        keys.append(cache_key(policy_file, host, CANDIDATE, artifacts, {}))
    assert len(set(keys)) == 3


def test_key_depends_on_code_only_where_a_step_calls_some(
    policy_of: PolicyOf, host: HostProfile, artifacts: Mapping[str, tuple[Artifact, ...]]
) -> None:
    policy_file = policy_of()
    before = cache_key(policy_file, host, CANDIDATE, artifacts, {})
    (policy_file.folder / "client.py").write_text("1")
    assert cache_key(policy_file, host, CANDIDATE, artifacts, {}) == before
