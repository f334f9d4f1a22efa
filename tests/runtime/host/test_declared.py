from __future__ import annotations

from pathlib import Path

import pytest
from host_machines import PI_4

from scanflow_serve.runtime.host.model import HostProfile
from scanflow_serve.runtime.host.profile import profile_host

FILE = "/etc/scanflow/device.yaml"


def declared(text: str | bytes, folder: Path, **environ: str) -> HostProfile:
    return profile_host(PI_4.but({FILE: text}).at(folder), environ)


def test_file_declares_kind_and_labels(tmp_path: Path) -> None:
    host = declared("kind: car\nlabels: {line: press-3, spare: true, rack: 7}\n", tmp_path)
    assert host.kind == "car"
    assert host.labels == {"line": "press-3", "rack": "7", "spare": "true"}
    assert host.warnings == ()


def test_environment_s_kind_prevails_over_the_file_s(tmp_path: Path) -> None:
    host = declared("{kind: car, labels: {a: b}}", tmp_path, SCANFLOW_DEVICE_KIND="tram")
    assert (host.kind, host.labels) == ("tram", {"a": "b"})


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("kind: [", "must be YAML, got"),
        ("[" * 5000, "must be YAML, got"),
        ("when: 2024-99-99", "must be YAML, got"),
        ("just words", "must be a map, got 'just words'. Ignored."),
        ("kinds: car", "keys must be kind or labels, got 'kinds'. Ignored."),
        ("kind: a car", "kind: must match [A-Za-z0-9][A-Za-z0-9._-]{0,62}, got 'a car'. Ignored."),
        ("labels: 7", "labels: must be a map, got '7'. Ignored."),
        ("labels: {a: [1]}", "labels.a: must be a text or number. Ignored."),
        (b"\xff\xfe\x00\x01", "must be YAML, got"),
    ],
)
def test_fault_in_the_file_is_ignored_with_a_warning(
    text: str | bytes, warning: str, tmp_path: Path
) -> None:
    host = declared(text, tmp_path)
    assert (host.kind, host.labels) == ("raspberry-pi", {})
    assert len(host.warnings) == 1
    assert host.warnings[0].startswith(FILE)
    assert warning in host.warnings[0]


def test_bad_kind_in_the_environment_is_ignored_with_a_warning(tmp_path: Path) -> None:
    host = declared("", tmp_path, SCANFLOW_DEVICE_KIND="a/b")
    assert host.kind == "raspberry-pi"
    assert host.warnings[0].startswith("SCANFLOW_DEVICE_KIND: must match")
