from __future__ import annotations

from pathlib import Path

import pytest
from host_machines import V2, Machine, mounts

from scanflow_serve.runtime.host.cgroup import Grant, granted
from scanflow_serve.runtime.host.tree import open_tree

ROOT = "/sys/fs/cgroup"


def grant(folder: Path, files: dict[str, str | bytes]) -> tuple[Grant, list[str]]:
    tree = open_tree(Machine(files).at(folder))
    return granted(tree), tree.warnings


def test_v2_takes_the_tightest_limit_of_all_ancestors(tmp_path: Path) -> None:
    pod = "/kubepods.slice/kubepods-pod7.slice"
    found, warnings = grant(
        tmp_path,
        {
            "/proc/self/cgroup": f"0::{pod}/cri-1.scope\n",
            "/proc/self/mountinfo": mounts(V2),
            f"{ROOT}{pod}/cri-1.scope/cpu.max": "200000 100000\n",
            f"{ROOT}{pod}/cri-1.scope/memory.max": "max\n",
            f"{ROOT}{pod}/cpu.max": "75000 50000\n",
            f"{ROOT}/kubepods.slice/memory.max": str(300 << 20),
            f"{ROOT}/kubepods.slice/cpuset.cpus.effective": "0-2,7\n",
        },
    )
    assert (found.quota_cores, found.memory_mb, found.cpuset_cpus) == (1.5, 300.0, 4)
    assert warnings == []


def test_v1_sentinels_are_no_limits(tmp_path: Path) -> None:
    found, warnings = grant(
        tmp_path,
        {
            "/proc/self/cgroup": "2:memory:/\n1:cpu:/\n",
            "/proc/self/mountinfo": mounts(
                f"/ {ROOT}/memory cgroup rw,memory", f"/ {ROOT}/cpu cgroup rw,cpu"
            ),
            f"{ROOT}/memory/memory.limit_in_bytes": "9223372036854771712\n",
            f"{ROOT}/cpu/cpu.cfs_quota_us": "-1\n",
            f"{ROOT}/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert (found.quota_cores, found.memory_mb, found.cpuset_cpus) == (None, None, None)
    assert warnings == []


def test_hybrid_reads_both_versions(tmp_path: Path) -> None:
    found, _ = grant(
        tmp_path,
        {
            "/proc/self/cgroup": "3:memory:/user\n0::/user\n",
            "/proc/self/mountinfo": mounts(
                f"/ {ROOT}/memory cgroup rw,memory", f"/ {ROOT}/unified cgroup2 rw"
            ),
            f"{ROOT}/memory/user/memory.limit_in_bytes": str(64 << 20),
            f"{ROOT}/unified/user/cpu.max": "25000 100000\n",
        },
    )
    assert (found.quota_cores, found.memory_mb) == (0.25, 64.0)


def test_groups_above_a_namespace_fall_back_to_the_mount(tmp_path: Path) -> None:
    found, _ = grant(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/../../other\n",
            "/proc/self/mountinfo": mounts(V2),
            f"{ROOT}/cpu.max": "100000 100000\n",
        },
    )
    assert found.quota_cores == 1.0


def test_mount_of_a_sub_group_is_read_below_it(tmp_path: Path) -> None:
    found, _ = grant(
        tmp_path,
        {
            "/proc/self/cgroup": "5:memory:/docker/1f/inner\n",
            "/proc/self/mountinfo": mounts(f"/docker/1f {ROOT}/memory cgroup rw,memory"),
            f"{ROOT}/memory/inner/memory.limit_in_bytes": str(128 << 20),
        },
    )
    assert found.memory_mb == 128.0


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_tree_without_mountinfo_has_the_usual_mounts(folder: str, tmp_path: Path) -> None:
    found, _ = grant(
        tmp_path,
        {
            f"{ROOT}/{folder}/cpu.cfs_quota_us": "50000\n",
            f"{ROOT}/{folder}/cpu.cfs_period_us": "100000\n",
        },
    )
    assert found.quota_cores == 0.5


def test_escaped_mount_points_are_read(tmp_path: Path) -> None:
    found, _ = grant(
        tmp_path,
        {
            "/proc/self/cgroup": "0::/\n",
            "/proc/self/mountinfo": mounts(r"/ /mnt/c\040g cgroup2 rw"),
            "/mnt/c g/memory.max": str(32 << 20),
        },
    )
    assert found.memory_mb == 32.0


@pytest.mark.parametrize("quota", ["0 100000", "-5 100000", "50000 0", "many 100000", "1 1 1"])
def test_absurd_quota_is_no_limit_with_a_warning(quota: str, tmp_path: Path) -> None:
    found, warnings = grant(tmp_path, {f"{ROOT}/cpu.max": f"{quota}\n"})
    assert found.quota_cores is None
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{ROOT}/cpu.max: must be a number from")
