from __future__ import annotations

import sys
from pathlib import Path

import pytest
from planning_worlds import host

from scanflow_serve.converters.memory import allowance_mb
from scanflow_serve.converters.origins.in_child import call_worker
from scanflow_serve.converters.runner import Limits
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.host.profile import profile_host

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds a process's memory")


@pytest.mark.parametrize(
    ("granted", "allowed"),
    [(0, 4096), (256, 128), (512, 256), (1024, 768), (4096, 3686), (65536, 58982)],
)
def test_child_may_take_what_the_host_grants_less_a_reserve(granted: float, allowed: float) -> None:
    assert allowance_mb(host(1, memory_mb=granted)) == allowed


def test_converter_is_bounded_by_this_hosts_memory_by_default() -> None:
    assert Limits().memory_mb == allowance_mb(profile_host())
    assert Limits().memory_mb < profile_host().memory_mb


@LINUX
@pytest.mark.parametrize(
    "code",
    [
        "bytearray(2**36)",
        "(folder / 'result.json').write_text(json.dumps({'error': 'std::bad_alloc'}))",
    ],
    ids=["child that dies of it", "child that reports it"],
)
def test_child_over_its_memory_is_refused_with_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    (tmp_path / "odd_child.py").write_text(
        "import json\nfrom pathlib import Path\n"
        "from scanflow_serve.converters.origins.in_child import begin\n"
        f"folder = Path(begin()['folder'])\n{code}\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = {"folder": str(tmp_path)}
    with pytest.raises(
        ArtifactError,
        match=r"Model 'net': the process that loads it must stay within 500 MB of memory, but "
        r"asked for more\. Convert on a larger machine",
    ):
        call_worker("odd_child", job, "Model 'net'", tmp_path, 60, memory_mb=500)
    assert not (tmp_path / "result.json").exists()
