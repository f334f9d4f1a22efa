"""Who is compared: how each is installed, and the command that serves the same model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from processes import Running, free_port, running

ROOT = Path(__file__).parents[1]
PEERS = Path(__file__).parent / "peers"
BUILD = ROOT / ".build" / "bench"
MODEL = ROOT / "tests/contract/models/digits-mlp.onnx"  # 64-64-10, 7 us a call
BASE = BUILD / "base"  # scanflow-serve without extras

# Their own environments; the library that runs the model is the same everywhere.
PINS: Mapping[str, tuple[str, ...]] = {
    "mlserver": ("mlserver==1.7.1", "onnxruntime==1.32.0"),
    "litserve": ("litserve==0.2.19", "onnxruntime==1.32.0"),
}
POLICY = """\
apiVersion: scanflow/v1
name: bench
models:
  net:
    source: {source}
    variants: {{backends: [onnxruntime], precisions: [fp32], threads: [1]}}
workflows: {{only: {{steps: [{{model: net}}]}}}}
targets: [{{run: only}}]
objective: {{minimize: latency_p95_ms}}
serve: {{server: {server}}}
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """One server: its key, its name in the table, and how it starts on a port.

    Attributes:
        command: Port -> command line.
        infer: Path that takes the body.
        ready: Path that answers 200 once it serves.
    """

    key: str
    name: str
    command: Callable[[int], Sequence[str | Path]]
    infer: str
    ready: str
    environ: Mapping[str, str] = field(default_factory=dict)
    cwd: Path = BUILD


@contextmanager
def served(contender: Contender) -> Iterator[Running]:
    """Run *contender* on a free port until the block ends."""
    port = free_port()
    with running(
        contender.command(port),
        port=port,
        ready=contender.ready,
        log=BUILD / f"{contender.key}.log",
        cwd=contender.cwd,
        environ=contender.environ,
    ) as server:
        yield server


def ours(server: str, *, model: Path = MODEL, key: str = "") -> Contender:
    """Return scanflow-serve, from the environment of its base, with a policy of one model."""
    folder = BUILD / f"policy-{key or server}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model.read_bytes())
    (folder / "policy.yaml").write_text(POLICY.format(source="model.onnx", server=server))
    return quickstart_like(folder, key or f"scanflow-{server}", f"scanflow-serve, {server}")


def quickstart_like(folder: Path, key: str, name: str) -> Contender:
    """Return scanflow-serve with the policy in *folder*."""
    program = BASE / "bin/scanflow-serve"
    return Contender(
        key=key,
        name=name,
        command=lambda port: [program, "run", folder / "policy.yaml", "--port", str(port)],
        infer="/v2/models/bench/infer",
        ready="/readyz",
        environ={"SCANFLOW_CACHE": str(BUILD / "cache")},
        cwd=folder,
    )


def bare() -> Contender:
    """Return uvicorn with 40 lines around the bare model."""
    options = ["--app-dir", PEERS, "--no-access-log", "--log-level", "warning"]
    return Contender(
        key="bare",
        name="bare uvicorn, bare model",
        command=lambda port: [BASE / "bin/uvicorn", "bare:app", "--port", str(port), *options],
        infer="/infer",
        ready="/",
        environ={"MODEL": str(MODEL)},
    )


def bentoml() -> Contender:
    """Return BentoML's typed endpoint with every default."""
    return Contender(
        key="bentoml",
        name="BentoML typed endpoint, defaults",
        command=lambda port: [
            *(BASE / "bin/bentoml", "serve", "bentoml_typed:Digits", "--working-dir", PEERS),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        infer="/infer",
        ready="/readyz",
        environ={"MODEL": str(MODEL), "BENTOML_HOME": str(BUILD / "bentoml")},
    )


def mlserver() -> Contender:
    """Return MLServer in one process, the only way in which it stays up."""
    folder = BUILD / "mlserver-model"

    def command(port: int) -> Sequence[str | Path]:
        folder.mkdir(exist_ok=True)
        settings = {"host": "127.0.0.1", "http_port": port, "parallel_workers": 0}
        settings |= {"grpc_port": free_port(), "debug": False, "metrics_endpoint": None}
        (folder / "settings.json").write_text(json.dumps(settings))
        model = {"name": "bench", "implementation": "mlserver_model.Digits"}
        (folder / "model-settings.json").write_text(json.dumps(model))
        return [BUILD / "mlserver/bin/mlserver", "start", folder]

    return Contender(
        key="mlserver",
        name="MLServer 1.7.1, parallel_workers: 0",
        command=command,
        infer="/v2/models/bench/infer",
        ready="/v2/health/ready",
        environ={"MODEL": str(MODEL), "PYTHONPATH": str(PEERS)},
    )


def litserve() -> Contender:
    """Return LitServe with every default."""
    python = BUILD / "litserve/bin/python"
    return Contender(
        key="litserve",
        name="LitServe 0.2.19, defaults",
        command=lambda port: [python, PEERS / "litserve_api.py", str(port)],
        infer="/infer",
        ready="/health",
        environ={"MODEL": str(MODEL)},
    )


def install(only: frozenset[str]) -> None:
    """Make the environments that are not there yet, and put our sources of today into theirs."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for name, pins in PINS.items():
        if name in only and not (BUILD / name / ".installed").exists():
            _pip(BUILD / name, *pins)
            (BUILD / name / ".installed").touch()
    _pip(BASE, "-c", str(ROOT / "constraints.txt"), str(ROOT))
    _pip(BASE, "--no-deps", "--force-reinstall", str(ROOT))


def _pip(home: Path, *arguments: str) -> None:
    if not (home / "bin/python").exists():
        print(f"making {home.relative_to(ROOT)} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [home / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, *arguments], check=True)


def installed_mb() -> float:
    """Return the size of the base with its dependencies in MiB, without pip and setuptools."""
    (packages,) = (BASE / "lib").glob("python*/site-packages")
    tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    files = (
        path
        for entry in packages.iterdir()
        if not entry.name.startswith(tools)
        for path in ([entry] if entry.is_file() else entry.rglob("*"))
    )
    return sum(path.stat().st_size for path in files if path.is_file()) / 1024**2
