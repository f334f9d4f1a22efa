"""Processes that share a store: they wait for one another, and may be killed at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from store_worlds import REFUSED, key_of, made, maker

from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.artifacts import Artifact
from scanflow_serve.runtime.store import ArtifactStore
from scanflow_serve.runtime.stored import FILE, Made, Refused

KEY = key_of("net")
TESTS = Path(__file__).parents[1]

PUBLISH = """
import os, sys
from pathlib import Path
from store_worlds import key_of, made
from scanflow_serve.runtime.store import ArtifactStore

def make(folder):
    with open(sys.argv[2], "a") as makers:
        makers.write(f"{os.getpid()}\\n")
    (folder / "started").touch()
    return made(folder, content=str(os.getpid()).encode())

store = ArtifactStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(store.publish(key_of("net"), make).path.read_text())
"""

HANG = """
import sys, time
from pathlib import Path
from store_worlds import key_of, made
from scanflow_serve.runtime.store import ArtifactStore

def make(folder):
    made(folder)
    print(folder, flush=True)
    time.sleep(600)

ArtifactStore(Path(sys.argv[1])).publish(key_of("net"), make)
"""

# Runs ACTION in forks, the n-th of which kills itself at its n-th change of the file system,
# and lets VERDICT look at the store after each, until one comes through alive.
KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from store_worlds import REFUSED, key_of, made, maker
from scanflow_serve.runtime.store import ArtifactStore

KEY = key_of("net")
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "fcntl.flock", "shutil.rmtree"}
root = Path(sys.argv[1])

def killer(at):
    count = itertools.count()
    def hook(event, args):
        writes = event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (event in CHANGES or writes) and next(count) == at:
            os.kill(os.getpid(), signal.SIGKILL)
    return hook

for at in itertools.count():
    store = ArtifactStore(root / str(at))
    SETUP
    child = os.fork()
    if not child:
        sys.addaudithook(killer(at))
        ACTION
        os._exit(0)
    _, status = os.waitpid(child, 0)
    VERDICT
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
print(at)
"""

# Does what processes that share a store do, in an order of its own, among them corrupting files
# and being killed in the middle; says how often it held an artifact, and found it whole.
CROWD = """
import os, random, signal, sys
from pathlib import Path
from store_worlds import key_of, maker
from scanflow_serve.policies.errors import ArtifactError
from scanflow_serve.runtime.store import ArtifactStore

store, order = ArtifactStore(Path(sys.argv[1])), random.Random(int(sys.argv[2]))

def publish(name):
    return store.publish(key_of(name), maker(name.encode() * 50))

def publish_and_hold(name):
    publish(name)
    try:
        with store.hold(key_of(name)):
            return 1
    except ArtifactError:
        return 0  # removed in between

def be_killed(name):
    child = os.fork()
    if not child:
        signal.setitimer(signal.ITIMER_REAL, order.uniform(0.0001, 0.004))
        publish(f"{name} {order.random()}")
        os._exit(0)
    os.waitpid(child, 0)

def corrupt(name):
    try:
        with open(store.folder / "made" / key_of(name) / "2-int8/net.onnx", "r+b") as file:
            file.write(b"Z")
    except FileNotFoundError:
        pass

held = 0
for _ in range(150):
    name, action = order.choice("abc"), order.random()
    if action < 0.5:
        held += publish_and_hold(name)
    elif action < 0.6:
        store.gc(order.choice([0, 0.001, 0.003]))
    elif action < 0.7:
        store.verify(), store.list()
    elif action < 0.8:
        corrupt(name)
    elif action < 0.9:
        be_killed(name)
    else:
        store.find(key_of(name))
print(held)
"""


def start(code: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def killed_everywhere(root: Path, *, setup: str, action: str, verdict: str) -> int:
    """Return the number of moments at which the action was killed."""
    code = KILLED.replace("SETUP", setup).replace("ACTION", action).replace("VERDICT", verdict)
    process = start(code, root)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return int(output)


def test_processes_that_convert_at_once_make_one_artifact(tmp_path: Path) -> None:
    processes = [start(PUBLISH, tmp_path / "store", tmp_path / "makers") for _ in range(4)]
    assert [line(process) for process in processes] == ["ready"] * 4
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outputs = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert outputs == {(tmp_path / "makers").read_text().strip()}  # one process, and all have its
    artifact = ArtifactStore(tmp_path / "store").find(KEY)
    assert artifact is not None
    assert not list((tmp_path / "store" / "working").iterdir())
    assert not list((tmp_path / "store" / "locks").iterdir())


def test_threads_that_convert_at_once_make_one_artifact(tmp_path: Path) -> None:
    makers: list[Path] = []

    def make(folder: Path) -> Made:
        makers.append(folder)
        return made(folder)

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ArtifactStore(tmp_path).publish, KEY, make) for _ in range(8)]
        artifacts = [future.result() for future in waiting]
    assert len(makers) == 1
    assert artifacts == [ArtifactStore(tmp_path).find(KEY)] * 8


def test_killed_conversion_does_not_count_and_is_swept(tmp_path: Path) -> None:
    process = start(HANG, tmp_path)
    folder = Path(line(process))
    end(process)
    store = ArtifactStore(tmp_path)
    assert folder.is_dir()
    assert store.find(KEY) is None
    assert isinstance(store.publish(key_of("other"), maker(b"graph")), Artifact)
    assert not folder.exists()
    assert store.publish(KEY, maker(b"graph")) == store.find(KEY)


def test_conversion_under_way_elsewhere_is_not_swept(tmp_path: Path) -> None:
    process = start(HANG, tmp_path)
    try:
        folder = Path(line(process))
        store = ArtifactStore(tmp_path)
        store.publish(key_of("other"), maker(b"graph"))
        store.gc(0)
        assert (folder / "2-int8" / "net.onnx").is_file()
    finally:
        end(process)


@pytest.mark.parametrize(
    ("setup", "action", "verdict", "moments"),
    [
        (
            "pass",
            "store.publish(KEY, maker(b'graph'))",
            "found = store.find(KEY); "
            "assert found is None or found.path.read_bytes() == b'graph'; "
            "assert not (root / str(at) / 'quarantine').exists(); "
            "assert store.publish(KEY, maker(b'graph')).path.read_bytes() == b'graph'",
            15,
        ),
        (
            "pass",
            "store.refuse(KEY, REFUSED)",
            "found = store.refused(KEY); "
            "assert found is None or found.refusal == REFUSED.refusal; store.gc(0); "
            "left = {p.name for p in (root / str(at)).rglob('*') if p.is_file()}; "
            "assert left <= {KEY + '.json'}, left",
            4,
        ),
        (
            "store.publish(KEY, maker(b'graph'))",
            "store.gc(0)",
            "found = store.find(KEY); "
            "assert found is None or found.path.read_bytes() == b'graph'; "
            "assert not (root / str(at) / 'quarantine').exists(); store.gc(0); "
            "left = [p for p in (root / str(at)).rglob('*') if p.is_file()]; "
            "assert not left, left",
            4,
        ),
    ],
    ids=["publish", "refuse", "gc"],
)
def test_process_killed_at_any_moment_leaves_a_store_that_is_whole(
    tmp_path: Path, setup: str, action: str, verdict: str, moments: int
) -> None:
    assert killed_everywhere(tmp_path, setup=setup, action=action, verdict=verdict) >= moments


def test_crowd_of_processes_leaves_a_store_that_is_whole(tmp_path: Path) -> None:
    crowd = [start(CROWD, tmp_path, Path(str(seed))) for seed in range(4)]
    held = [int(process.communicate(timeout=120)[0]) for process in crowd]
    assert min(held) > 40
    store = ArtifactStore(tmp_path)
    store.verify()
    for name in "abc":
        artifact = store.publish(key_of(name), maker(name.encode() * 50))
        assert isinstance(artifact, Artifact)
        assert artifact.path.read_bytes() == name.encode() * 50
    store.gc(0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_corrupt_artifact_that_is_being_made_again_counts_as_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ArtifactStore(tmp_path)
    store.publish(KEY, maker(b"graph"))
    found: list[Any] = []

    def make(folder: Path) -> Made:
        (tmp_path / "made" / KEY).mkdir()  # as if just placed by someone else, and corrupt
        found.append(ArtifactStore(tmp_path).find(KEY))
        (tmp_path / "made" / KEY).rmdir()
        return made(folder)

    (tmp_path / "made" / KEY / FILE).unlink()
    assert store.publish(KEY, make) == store.find(KEY)
    assert found == [None]


def test_corrupt_artifact_in_a_store_that_cannot_be_written_counts_as_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ArtifactStore(tmp_path)
    artifact = store.publish(KEY, maker(b"graph"))
    (tmp_path / "locks").rmdir()
    (tmp_path / "locks").write_text("no folder: root may write anywhere else")
    assert store.find(KEY) == artifact
    (tmp_path / "made" / KEY / FILE).unlink()
    assert store.find(KEY) is None
    assert "corrupt, and can't be moved away" in caplog.text


def test_artifact_that_a_live_process_holds_is_kept(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.publish(KEY, maker(b"graph"))
    hold = (
        "import sys; from pathlib import Path; from store_worlds import key_of\n"
        "from scanflow_serve.runtime.store import ArtifactStore\n"
        "held = ArtifactStore(Path(sys.argv[1])).hold(key_of('net'))\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    process = start(hold, tmp_path)
    try:
        assert line(process) == "held"
        collected = store.gc(0)
    finally:
        end(process)
    assert [entry.key for entry in collected.held] == [KEY]
    assert collected.removed == ()
    assert store.find(KEY) is not None
    assert [entry.key for entry in store.gc(0).removed] == [KEY]  # its holder is dead


def test_artifact_can_be_held_by_several_and_is_kept_until_the_last(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.publish(KEY, maker(b"graph"))
    with store.hold(KEY):
        store.hold(KEY).close()
        assert len(store.gc(0).held) == 1
    assert store.gc(0).held == ()


def test_artifact_that_is_gone_cannot_be_held(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"must be there to be held.*Make it again\."):
        ArtifactStore(tmp_path).hold(KEY)


def test_artifact_that_goes_while_it_is_taken_hold_of_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ArtifactStore(tmp_path)
    store.publish(KEY, maker(b"graph"))
    opened = Path.open

    def slow_open(path: Path, *arguments: Any) -> Any:
        file = opened(path, *arguments)
        monkeypatch.undo()
        assert len(ArtifactStore(tmp_path).gc(0).removed) == 1
        return file

    monkeypatch.setattr(Path, "open", slow_open)
    with pytest.raises(ArtifactError, match="removed just now"):
        store.hold(KEY)


def test_refused_while_others_wait_is_refused_to_them(tmp_path: Path) -> None:
    makers: list[Path] = []

    def make(folder: Path) -> Refused:
        makers.append(folder)
        return REFUSED

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(ArtifactStore(tmp_path).publish, KEY, make) for _ in range(4)]
        answers = [future.result() for future in waiting]
    assert len(makers) == 1
    assert all(isinstance(a, Refused) and a.refusal == REFUSED.refusal for a in answers)
