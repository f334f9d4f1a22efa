"""Replicas of one policy, together: what their checks have won is added up.

Each replica sees rows that the others do not, and bets with a whole budget. Wealth less the rows
seen is a supermartingale for each, and so for their sum: it reaches A no sooner than after A rows
of all replicas on average. A change that is too small for any one of them shows in the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scanflow_serve.policies.errors import StateError
from scanflow_serve.runtime.checks.host import Host
from scanflow_serve.runtime.checks.lifecycle import SEVERITY
from scanflow_serve.runtime.checks.storage import FOLDER, Checkpoint, Storage
from scanflow_serve.runtime.checks.watch import Watch


def merge_replicas(host: Host, folders: Sequence[Path]) -> None:
    """Let *host* stand where the replicas that keep their states in *folders* stand together.

    What they keep is read and never written: merged twice, rows would count twice.

    Args:
        host: Of the same policy, fresh; it is to be looked at and thrown away.
        folders: Each replica's state folder.

    Raises:
        StateError: None of them has a state that fits the policy.
    """
    storages = [Storage(folder / FOLDER) for folder in folders]
    for watch in host.watches:
        if watch.inline:
            continue
        found = [storage.load(watch.name, watch.digest) for storage in storages]
        kept = [each for each in found if each is not None and each.arrays]
        if kept:
            _take_up(watch, kept)
        else:
            watch.life = watch.life.collecting("no replica has armed it")
    if not any(watch.armed for watch in host.watches):
        shown = ", ".join(map(str, folders))
        raise StateError(
            f"{shown}: a replica must have an armed check of this policy, got none. "
            "Name the state folders of servers that run it."
        )
    host.begin_merged()


def _take_up(watch: Watch, kept: Sequence[Checkpoint]) -> None:
    """Restore the gravest replica's check, and count the others in."""
    gravest, *others = sorted(kept, key=_severity, reverse=True)
    if not watch.take_up(gravest):
        return
    if others and not watch.check.mergeable:
        watch.disable("its states can't be added up: each replica's stands for itself")
        return
    watch.merge(others)


def _severity(kept: Checkpoint) -> int:
    return SEVERITY.index(kept.document["life"]["state"])
