from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from host_machines import POD
from pydantic import ValidationError

from scanflow_serve.policies.errors import UsageError
from scanflow_serve.policies.vocabulary import HOST, ListType, MapType, RecordType, Type
from scanflow_serve.runtime.host.model import Cpu, HostProfile
from scanflow_serve.runtime.host.profile import profile_host
from scanflow_serve.runtime.host.recorded import load_profile

HOST_PROFILE = HostProfile(kind="server", arch="x86_64", cpu=Cpu(cores=2.0), memory_mb=1024.0)


def fits(value: object, type_: Type) -> bool:
    """Return whether *value* is of a type of the vocabulary, with all members and no more."""
    if isinstance(type_, RecordType):
        return (
            isinstance(value, dict)
            and value.keys() == type_.members.keys()
            and all(fits(value[name], member) for name, member in type_.members.items())
        )
    if isinstance(type_, MapType):
        return isinstance(value, dict) and all(fits(item, type_.value) for item in value.values())
    if isinstance(type_, ListType):
        return isinstance(value, list) and all(fits(item, type_.item) for item in value)
    return type(value) is {"bool": bool, "double": float, "string": str}[type_]


def test_variables_are_exactly_the_vocabulary_s_host(tmp_path: Path) -> None:
    declared = POD.but({"/etc/scanflow/device.yaml": "labels: {line: press-3}"})
    for host in (profile_host(), profile_host(declared.at(tmp_path)), profile_host(tmp_path)):
        assert fits(host.variables(), HOST)


@pytest.mark.parametrize("value", [{}, {"kind": 7}, {"kind": "server", "cores": 2.0}])
def test_the_check_of_the_vocabulary_can_fail(value: dict[str, Any]) -> None:
    assert not fits({**HOST_PROFILE.variables(), **value} if value else {}, HOST)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"memory_mb": "much"}, r"memory_mb\n.*valid number"),
        ({"memory_mb": float("inf")}, r"memory_mb\n.*finite number"),
        ({"cpu": {"cores": 1.0, "turbo": True}}, r"cpu\.turbo\n.*[Uu]nexpected"),
        ({"colour": "red"}, r"colour\n.*[Uu]nexpected"),
        ({"cpu": None}, r"cpu\n.*dictionary"),
    ],
)
def test_bad_document_is_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ValidationError, match=match):
        HostProfile.from_json(HOST_PROFILE.to_json() | change)


def test_missing_member_is_refused() -> None:
    document = HOST_PROFILE.to_json()
    del document["kind"]
    with pytest.raises(ValidationError, match=r"kind\n.*required"):
        HostProfile.from_json(document)


@pytest.mark.parametrize(
    "change",
    [
        {"temperature_c": 80.0},
        {"throttled": True, "throttle_reasons": ("throttled",)},
        {"on_battery": True},
        {"memory_mb": 1020.0},
        {"cpu": Cpu(cores=2.0, max_mhz=2_900.0)},
        {"warnings": ("x",)},
    ],
)
def test_fingerprint_stays(change: dict[str, Any]) -> None:
    assert dataclasses.replace(HOST_PROFILE, **change).fingerprint == HOST_PROFILE.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"memory_mb": 512.0},
        {"cpu": Cpu(cores=0.5)},
        {"cpu": Cpu(cores=2.0, features=("avx2",))},
        {"model": "Raspberry Pi 5"},
        {"accelerators": ("nvidia",)},
    ],
)
def test_fingerprint_changes_with_hardware_and_grants(change: dict[str, Any]) -> None:
    assert dataclasses.replace(HOST_PROFILE, **change).fingerprint != HOST_PROFILE.fingerprint


def test_recorded_profile_is_read_back(tmp_path: Path) -> None:
    host = profile_host()
    path = tmp_path / "host.json"
    path.write_text(json.dumps(host.to_json()))
    assert load_profile(path) == host


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", r"host\.json: must be JSON, got .*Record one on that machine"),
        ("[]", r"host\.json: must be a JSON object, got 'list'"),
        ('{"kind": 7}', r"(?s)host\.json: kind: .*valid string, got 7\..*host\.json: arch: "),
    ],
)
def test_bad_recording_is_a_usage_error(text: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "host.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=match):
        load_profile(path)


def test_missing_recording_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: must be readable, got 'No such file"):
        load_profile(tmp_path / "none.json")


def test_whole_number_of_cores_is_the_same_host_as_an_int_and_as_a_float() -> None:
    whole = dataclasses.replace(HOST_PROFILE, cpu=Cpu(cores=2))
    assert whole.fingerprint == HOST_PROFILE.fingerprint
    assert whole.fingerprint == HostProfile.from_json(whole.to_json()).fingerprint
    assert whole.fingerprint != dataclasses.replace(whole, cpu=Cpu(cores=3)).fingerprint
