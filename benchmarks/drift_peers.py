"""The same rows through our checks, Evidently, Frouros, River and alibi-detect, side by side.

    python benchmarks/drift_peers.py [--quick] [--runs 8] [--update README.md]

Each in an environment of its own, below .build/bench; the first run installs them, some 4 GB.
Method: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import drift_trials_file
from contenders import BUILD, PEERS, ROOT
from drift_peer_tables import Measured, summary, table
from page import machine, update

MIB = 1024 * 1024
QUICK = (400, 2, 200)  # clean rows, clean windows, rows after a change


@dataclass(frozen=True, slots=True)
class Peer:
    """One library.

    Attributes:
        pins: As pip takes them: what it needs to be importable, with what it does not pin itself.
        python: Its interpreter, such as ``3.10``; "": that of this environment.
    """

    key: str
    name: str
    pins: tuple[str, ...]
    python: str = ""

    @property
    def home(self) -> Path:
        """Return its environment."""
        return BUILD / f"drift-{self.key}"


RIVALS = (
    Peer("evidently", "Evidently 0.7.23", ("evidently==0.7.23", "pandas==2.3.3")),
    Peer("frouros", "Frouros 0.9.0", ("frouros==0.9.0",)),
    Peer("river", "River 0.26.1", ("river==0.26.1",)),
    Peer(
        "alibi",
        "alibi-detect 0.11.4",
        (
            "alibi-detect==0.11.4",
            "scipy==1.11.4",
            "tensorflow-cpu==2.12.1",
            "tensorflow-probability==0.19.0",
        ),
        python="3.10",
    ),
)


def installed(peer: Peer) -> str:
    """Make the environment of *peer* if it is not there; return why it can't be, "" if it can."""
    mark = peer.home / ".installed"
    if mark.exists():
        return ""
    program = _interpreter(peer.python)
    if program is None:
        return f"needs Python {peer.python}, which is not here"
    say(f"making {peer.home.relative_to(ROOT)} ...")
    subprocess.run([program, "-m", "venv", peer.home], check=True)
    pip = [peer.home / "bin/python", "-m", "pip", "install", "-qq"]
    done = subprocess.run([*pip, *peer.pins], capture_output=True, text=True)
    if done.returncode:
        return f"can't be installed: {done.stderr.strip().splitlines()[-1][:200]}"
    mark.touch()
    return ""


def _interpreter(version: str) -> Path | str | None:
    if not version:
        return sys.executable
    if found := shutil.which(f"python{version}"):
        return found
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return next(iter(sorted(root.glob(f"versions/{version}.*/bin/python"))), None)


def installed_mb(peer: Peer) -> float:
    """Return the size of its environment in MiB, without pip and setuptools."""
    (packages,) = (peer.home / "lib").glob("python*/site-packages")
    files = (
        path
        for entry in packages.iterdir()
        if not entry.name.startswith(("pip", "setuptools", "pkg_resources", "_distutils_hack"))
        for path in ([entry] if entry.is_file() else entry.rglob("*"))
    )
    return sum(path.stat().st_size for path in files if path.is_file()) / MIB


def tried(program: Path | str, key: str, rows: Path, seconds: float) -> dict[str, Any]:
    """Return what came of the methods in ``peers/drift_KEY.py``, run by *program*.

    Raises:
        CalledProcessError: It failed; its text is on stderr.
    """
    out = rows.with_name(f"{key}.json")
    paths = [PEERS, ROOT / "benchmarks"] if key == "scanflow" else [PEERS]
    if before := os.environ.get("PYTHONPATH"):
        paths += [Path(each) for each in before.split(os.pathsep)] if key == "scanflow" else []
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, paths))}
    script = PEERS / f"drift_{key}.py"
    subprocess.run([program, script, rows, str(seconds), out], check=True, env=environ)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def measured(runs: int, seconds: float, *, quick: bool) -> Measured:
    """Return what came of all; *quick* leaves out peers that are not installed."""
    folder = BUILD / "drift-peers"
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / "rows.npz"
    drift_trials_file.write(rows, runs, *(QUICK if quick else ()))
    say("scanflow-serve")
    methods: dict[str, Mapping[str, Any]] = tried(sys.executable, "scanflow", rows, seconds)
    sizes_mb, absent = {}, {}
    for peer in RIVALS:
        if quick and not (peer.home / ".installed").exists():
            absent[peer.name] = "not installed"
            continue
        if why := installed(peer):
            absent[peer.name] = why
            continue
        say(peer.name)
        methods |= tried(peer.home / "bin/python", peer.key, rows, seconds)
        sizes_mb[peer.name] = installed_mb(peer)
    return Measured(methods, sizes_mb, absent, runs)


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the tables, write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=8, help="of every trial")
    parser.add_argument("--seconds", type=float, default=120, help="of processor time for a method")
    parser.add_argument("--quick", action="store_true", help="one short run: a smoke test")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the summary into FILE")
    options = parser.parse_args()
    runs = 1 if options.quick else options.runs
    found = measured(runs, 1.0 if options.quick else options.seconds, quick=options.quick)
    folder = ROOT / "benchmarks/results"
    folder.mkdir(exist_ok=True)
    (folder / "drift_peers.json").write_text(json.dumps(found.methods, indent=2) + "\n")
    text = "\n".join([*table(found), "", f"{machine()}; {time.strftime('%Y-%m-%d')}."])
    print(text)
    if options.update:
        update(options.update, "drift-peers", "\n".join(summary(found)))
        update(ROOT / "benchmarks/README.md", "drift-peers", text)


if __name__ == "__main__":
    main()
