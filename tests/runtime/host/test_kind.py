from __future__ import annotations

from pathlib import Path

import pytest
from host_machines import (
    CLOUD_SERVER,
    DESKTOP,
    DOCKER_MOUNTS,
    JETSON_ORIN,
    LAPTOP_ON_BATTERY,
    PI_4,
    POD,
    SLURM_JOB,
    V1_CONTAINER,
    Machine,
    dmi,
    mounts,
)

from scanflow_serve.runtime.host.profile import profile_host

IN_DOCKER: dict[str, str | bytes] = {
    "/.dockerenv": "",
    "/proc/self/mountinfo": mounts(also=DOCKER_MOUNTS),
}


def kind(machine: Machine, folder: Path) -> str:
    return profile_host(machine.at(folder), machine.environ).kind


def test_declared_kind_prevails_over_everything(tmp_path: Path) -> None:
    assert kind(POD.but(SCANFLOW_DEVICE_KIND="car"), tmp_path) == "car"


def test_orchestrator_prevails_over_the_board(tmp_path: Path) -> None:
    assert kind(PI_4.but(KUBERNETES_SERVICE_HOST="10.43.0.1"), tmp_path) == "cluster"


def test_board_prevails_over_a_container_on_it(tmp_path: Path) -> None:
    host = profile_host(PI_4.but(IN_DOCKER).at(tmp_path))
    assert (host.kind, host.container) == ("raspberry-pi", "docker")


def test_pi_is_known_where_docker_masks_the_device_tree(tmp_path: Path) -> None:
    files = {path: text for path, text in PI_4.files.items() if "device-tree" not in path}
    host = profile_host(Machine({**files, **IN_DOCKER}).at(tmp_path))
    assert (host.kind, host.model) == ("raspberry-pi", "Raspberry Pi 4 Model B Rev 1.2")


def test_jetson_on_another_vendor_s_carrier_is_a_jetson(tmp_path: Path) -> None:
    carrier = JETSON_ORIN.but({"/proc/device-tree/model": b"Acme Vision Box\0"})
    host = profile_host(carrier.at(tmp_path))
    assert (host.kind, host.model) == ("jetson", "Acme Vision Box")


@pytest.mark.parametrize(
    ("chassis", "expected"),
    [
        (3, "desktop"),
        (7, "desktop"),
        (13, "desktop"),
        (35, "desktop"),
        (8, "laptop"),
        (9, "laptop"),
        (10, "laptop"),
        (14, "laptop"),
        (31, "laptop"),
        (32, "laptop"),
        (17, "server"),
        (23, "server"),
        (28, "server"),
        (2, "unknown"),
    ],
)
def test_chassis_tells_the_kind(chassis: int, expected: str, tmp_path: Path) -> None:
    machine = DESKTOP.but(dmi("Acme", "Box", chassis))
    assert kind(machine, tmp_path) == expected


def test_battery_makes_a_laptop_of_an_unknown_chassis(tmp_path: Path) -> None:
    assert kind(LAPTOP_ON_BATTERY.but(dmi("Acme", "Book", 2)), tmp_path) == "laptop"


@pytest.mark.parametrize("chassis", [1, 3])
def test_virtual_machine_is_a_server_whatever_chassis_it_claims(
    chassis: int, tmp_path: Path
) -> None:
    azure = dmi("Microsoft Corporation", "Virtual Machine", chassis)
    assert kind(CLOUD_SERVER.but(azure), tmp_path) == "server"


def test_windows_subsystem_is_a_desktop(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "/proc/cpuinfo": CLOUD_SERVER.files["/proc/cpuinfo"],
        "/proc/sys/kernel/osrelease": "5.15.153.1-microsoft-standard-WSL2\n",
    }
    assert kind(Machine(files), tmp_path) == "desktop"


def test_unknown_kind_asks_for_a_declaration(tmp_path: Path) -> None:
    board = PI_4.but(
        {
            "/proc/cpuinfo": "processor\t: 0\n",
            "/proc/device-tree/model": b"Radxa ROCK 5B\0",
            "/proc/device-tree/compatible": b"radxa,rock-5b\0rockchip,rk3588\0",
        }
    )
    host = profile_host(board.at(tmp_path))
    assert (host.kind, host.model) == ("unknown", "Radxa ROCK 5B")
    assert any("Set SCANFLOW_DEVICE_KIND" in text for text in host.warnings)


def test_firmware_that_nobody_filled_in_is_no_model(tmp_path: Path) -> None:
    machine = DESKTOP.but(dmi("To Be Filled By O.E.M.", "System Product Name", 3))
    assert profile_host(machine.at(tmp_path)).model == ""


def test_virtual_machine_from_a_docker_image_is_no_container(tmp_path: Path) -> None:
    exported = CLOUD_SERVER.but({"/.dockerenv": "", "/proc/self/mountinfo": mounts()})
    host = profile_host(exported.at(tmp_path))
    assert (host.kind, host.container) == ("server", "")


@pytest.mark.parametrize(
    ("files", "environ", "container"),
    [
        ({"/run/.containerenv": ""}, {}, "podman"),
        ({"/run/systemd/container": "lxc\n"}, {}, "lxc"),
        ({}, {"container": "systemd-nspawn"}, "systemd-nspawn"),
        ({}, {"APPTAINER_CONTAINER": "/x.sif"}, "apptainer"),
        ({"/proc/self/cgroup": "0::/system.slice/docker-1f.scope\n"}, {}, "docker"),
        ({"/proc/self/cgroup": "1:cpu:/lxc/web\n"}, {}, "lxc"),
        ({"/proc/self/cgroup": "0::/system.slice/docker.service\n"}, {}, ""),
    ],
)
def test_container_is_recognised(
    files: dict[str, str | bytes], environ: dict[str, str], container: str, tmp_path: Path
) -> None:
    host = profile_host(CLOUD_SERVER.but(files).at(tmp_path), environ)
    assert host.container == container
    assert host.kind == ("container" if container else "server")


@pytest.mark.parametrize(
    ("group", "orchestrator"),
    [
        ("0::/kubepods.slice/kubepods-burstable.slice/x.scope\n", "kubernetes"),
        ("4:memory:/kubepods/burstable/pod7/1f\n", "kubernetes"),
        ("4:memory:/slurm/uid_1000/job_42/step_0\n", "slurm"),
        ("0::/system.slice/slurmd.service\n", ""),
    ],
)
def test_orchestrator_is_known_by_its_control_group(
    group: str, orchestrator: str, tmp_path: Path
) -> None:
    host = profile_host(CLOUD_SERVER.but({"/proc/self/cgroup": group}).at(tmp_path))
    assert host.orchestrator == orchestrator


def test_unknown_orchestrator_is_ignored_with_a_warning(tmp_path: Path) -> None:
    host = profile_host(V1_CONTAINER.at(tmp_path), {"SCANFLOW_ORCHESTRATOR": "nomad"})
    assert (host.kind, host.orchestrator) == ("container", "")
    expected = "SCANFLOW_ORCHESTRATOR: must be one of kubernetes, swarm, slurm, got 'nomad'. "
    assert expected + "Ignored." in host.warnings


def test_slurm_job_in_apptainer_is_part_of_a_cluster(tmp_path: Path) -> None:
    machine = SLURM_JOB.but(APPTAINER_CONTAINER="/x.sif")
    host = profile_host(machine.at(tmp_path), machine.environ)
    assert (host.kind, host.container) == ("cluster", "apptainer")


def test_swarm_task_is_known_by_a_variable_of_its_stack_file(tmp_path: Path) -> None:
    host = profile_host(V1_CONTAINER.at(tmp_path), {"SWARM_TASK_NAME": "web.1"})
    assert (host.kind, host.orchestrator) == ("cluster", "swarm")
