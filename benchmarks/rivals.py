"""Who is compared under load: our server with all variants, with each alone, and other servers."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import family
import readers
from contenders import BASE, BUILD, PEERS, ROOT, Contender, quickstart_like
from openloop import Reader, Target
from processes import free_port

FAMILY = BUILD / f"family-{family.SIDE}"
CONTRACT = ROOT / "tests/contract"
DIGITS = ("digits-mlp", "digits-cnn")
LIMIT_MS = 500  # from the instant at which a request is due; later answers are worth nothing
ON_THE_WAY_MS = 20  # of it, kept back for the way; servers that take a deadline are told the rest
THREADS = 2  # that the other servers give to a call, as they make one at a time
POLICY = """\
apiVersion: scanflow/v1
name: bench
models:
{models}
validation: {{data: judged.npz, input: pixels, target: label, metric: accuracy}}
workflows: {{only: {{steps: [{{model: [{names}]}}]}}}}
targets: [{{run: only}}]
objective: {{maximize: accuracy}}
measurement: {{budget_s: 600}}
scheduling: {{default_deadline_ms: {deadline_ms}, max_batch: 4, standbys: {standbys}}}
"""
MODEL = """\
  {name}:
    source: {name}.onnx
    variants: {{backends: [onnxruntime], precisions: [fp32], threads: [1]}}
"""


@dataclass(frozen=True, slots=True)
class Rival:
    """A server, and how it is asked.

    Attributes:
        model: What answers where the answer does not say it.
    """

    contender: Contender
    bodies: tuple[bytes, ...]
    read: Reader
    model: str

    @property
    def key(self) -> str:
        """Return its short name."""
        return self.contender.key

    def target(self, url: str) -> Target:
        """Return where to send, for the server at *url*."""
        headers = {"Content-Type": "application/json"}
        return Target(url + self.contender.infer, self.bodies, headers, self.read)


def ours() -> Rival:
    """Return scanflow-serve with all members, free to choose."""
    return _scanflow("scanflow", "scanflow-serve", tuple(m.name for m in family.MEMBERS))


def static(name: str) -> Rival:
    """Return scanflow-serve with one member: the same queue, batches and admission."""
    return _scanflow(f"static-{name}", f"{name} alone", (name,))


def digits() -> Rival:
    """Return scanflow-serve with two of the contract's networks, which take some 10 us a row."""
    made = _scanflow("digits", "scanflow-serve, the contract's digits", DIGITS, CONTRACT / "models")
    return replace(made, model="")


def bentoml(name: str = family.FASTEST) -> Rival:
    """Return BentoML with adaptive batching, every default."""
    contender = Contender(
        key="bentoml-batching",
        name=f"BentoML, adaptive batching, {name}",
        command=lambda port: [
            *(BASE / "bin/bentoml", "serve", "bentoml_batched:Digits", "--working-dir", PEERS),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        infer="/infer",
        ready="/readyz",
        environ=_environ(name) | {"BENTOML_HOME": str(BUILD / "bentoml")},
    )
    bodies = tuple(json.dumps({"inputs": [row]}).encode() for row in _pixels())
    return Rival(contender, bodies, readers.rows, name)


def mlserver(name: str = family.FASTEST) -> Rival:
    """Return MLServer with adaptive batching as its documentation shows it."""
    folder = BUILD / "mlserver-batching"

    def command(port: int) -> list[str | Path]:
        folder.mkdir(exist_ok=True)
        settings = {"host": "127.0.0.1", "http_port": port, "parallel_workers": 0}
        settings |= {"grpc_port": free_port(), "debug": False, "metrics_endpoint": None}
        (folder / "settings.json").write_text(json.dumps(settings))
        model = {"name": "bench", "implementation": "mlserver_model.Digits"}
        batching = {"max_batch_size": 4, "max_batch_time": 0.01}
        (folder / "model-settings.json").write_text(json.dumps(model | batching))
        return [BUILD / "mlserver/bin/mlserver", "start", folder]

    contender = Contender(
        key="mlserver-batching",
        name=f"MLServer, adaptive batching, {name}",
        command=command,
        infer="/v2/models/bench/infer",
        ready="/v2/health/ready",
        environ=_environ(name) | {"PYTHONPATH": str(PEERS)},
    )
    return Rival(contender, _oip_bodies(), readers.oip, name)


def _scanflow(key: str, title: str, names: tuple[str, ...], models: Path | None = None) -> Rival:
    folder = BUILD / f"policy-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.onnx").write_bytes(((models or FAMILY) / f"{name}.onnx").read_bytes())
    (folder / "judged.npz").write_bytes((FAMILY / "judged.npz").read_bytes())
    text = POLICY.format(
        models="".join(MODEL.format(name=name) for name in names).rstrip("\n"),
        names=", ".join(names),
        deadline_ms=LIMIT_MS - ON_THE_WAY_MS,
        standbys=len(names) - 1,
    )
    (folder / "policy.yaml").write_text(text)
    return Rival(quickstart_like(folder, key, title), _oip_bodies(), readers.oip, names[-1])


def _environ(name: str) -> dict[str, str]:
    return {"MODEL": str(FAMILY / f"{name}.onnx"), "THREADS": str(THREADS)}


def _pixels() -> list[list[float]]:
    rows: list[list[float]] = family.judged().pixels.tolist()
    return rows


def _oip_bodies() -> tuple[bytes, ...]:
    tensor = {"name": "pixels", "shape": [1, 64], "datatype": "FP32"}
    return tuple(json.dumps({"inputs": [tensor | {"data": row}]}).encode() for row in _pixels())
