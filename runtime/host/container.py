"""Whether a container holds this process, and which scheduler put it there."""

from __future__ import annotations

from collections.abc import Mapping

from scanflow_serve.runtime.host.tree import Tree, printable

ORCHESTRATORS = ("kubernetes", "swarm", "slurm")
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
# Docker mounts these over whatever the image has.
_DOCKER_MOUNTS = frozenset({"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"})
_GROUP_MARKS = {
    "kubepods": "kubernetes",
    "libpod": "podman",
    "docker": "docker",
    "lxc": "lxc",
    "machine.slice/systemd-nspawn": "systemd-nspawn",
}


def read_orchestrator(tree: Tree, environ: Mapping[str, str], groups: tuple[str, ...]) -> str:
    """Return ``kubernetes``, ``swarm``, ``slurm`` or "".

    Swarm leaves no mark inside a task: the stack file says ``SCANFLOW_ORCHESTRATOR: swarm``, as
    an exported one does, or passes any ``DOCKER_SWARM_…`` or ``SWARM_TASK_…`` variable.
    """
    declared = environ.get("SCANFLOW_ORCHESTRATOR", "").strip().lower()
    if declared in ORCHESTRATORS:
        return declared
    if declared:
        rule = f"must be one of {', '.join(ORCHESTRATORS)}, got {declared[:40]!r}"
        tree.warn(f"SCANFLOW_ORCHESTRATOR: {rule}. Ignored.")
    if "KUBERNETES_SERVICE_HOST" in environ or tree.is_folder(_SERVICE_ACCOUNT):
        return "kubernetes"
    if "SLURM_JOB_ID" in environ:
        return "slurm"
    if any(name.startswith(("DOCKER_SWARM_", "SWARM_TASK_")) for name in environ):
        return "swarm"
    marks = {"kubernetes": "kubepods", "slurm": "slurm"}
    return next((name for name, mark in marks.items() if _marked(groups, mark)), "")


def _marked(groups: tuple[str, ...], mark: str) -> bool:
    """Return whether a path segment of a group begins with *mark*, such as ``kubepods.slice``.

    The segment of a daemon, such as ``docker.service`` or ``slurmd.service``, does not count.
    """
    segments = [segment for group in groups for segment in group.split("/")]
    return any(
        segment.startswith(mark) and not segment.endswith(".service") for segment in segments
    )


def read_container(
    tree: Tree, environ: Mapping[str, str], groups: tuple[str, ...], orchestrator: str
) -> str:
    """Return ``docker``, ``podman``, ``kubernetes``, ``lxc``, ``apptainer``, … or ""."""
    if orchestrator == "kubernetes":
        return "kubernetes"
    if "APPTAINER_CONTAINER" in environ or "SINGULARITY_CONTAINER" in environ:
        return "apptainer"
    if tree.exists("/run/.containerenv"):
        return "podman"
    if tree.exists("/.dockerenv") and _has_docker_mounts(tree):
        return "docker"
    named = environ.get("container") or tree.line("/run/systemd/container")
    if named:
        return printable(named)
    return next((name for mark, name in _GROUP_MARKS.items() if _in_group(groups, mark)), "")


def _in_group(groups: tuple[str, ...], mark: str) -> bool:
    if "/" in mark:
        return any(mark in group for group in groups)
    return _marked(groups, mark)


def _has_docker_mounts(tree: Tree) -> bool:
    """Return whether Docker runs us; a VM whose disk was exported from an image has the file too.

    True as well where mounts can't be read.
    """
    lines = (tree.text("/proc/self/mountinfo") or "").splitlines()
    points = {fields[4] for fields in map(str.split, lines) if len(fields) > 4}
    return not points or bool(points & _DOCKER_MOUNTS)
