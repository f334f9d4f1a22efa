"""What serving costs: the same model and body against bare uvicorn, BentoML, MLServer, LitServe.

    python benchmarks/overhead.py [--seconds 120] [--rounds 3] [--update README.md]

One run, side by side, in interleaved rounds (A B C … A B C …), so that a noisy neighbour disturbs
all alike; medians over rounds, and their ratios. Method: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import contenders
from contenders import BASE, BUILD, ROOT, Contender, served
from load import Body, Figures, burst, generator
from page import machine, update
from processes import Running
from tables import CONNECTIONS, Burst, table

US_PER_S = 1e6
CHOICES: dict[str, Callable[[], Contender]] = {
    "bare": contenders.bare,
    "uvicorn": lambda: contenders.ours("uvicorn"),
    "scanflow": lambda: contenders.ours("bentoml"),
    "bentoml": contenders.bentoml,
    "mlserver": contenders.mlserver,
    "litserve": contenders.litserve,
}


def digits_body() -> Body:
    """Return one row as OIP v2 JSON."""
    values = [float(n % 17) for n in range(64)]
    tensor = {"name": "pixels", "shape": [1, 64], "datatype": "FP32", "data": values}
    content = json.dumps({"inputs": [tensor]}).encode()
    return Body(content, {"Content-Type": "application/json"})


def image_body() -> Body:
    """Return a 224 x 224 x 3 float32 image as OIP v2 binary."""
    size = 3 * 224 * 224 * 4
    tensor = {"name": "image", "shape": [1, 3, 224, 224], "datatype": "FP32"}
    head = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}).encode()
    headers = {"Content-Type": "application/octet-stream"}
    return Body(head + bytes(size), headers | {"Inference-Header-Content-Length": str(len(head))})


def image_model() -> Path:
    """Return an ONNX file that takes the image and does little with it: means by channel."""
    import onnx
    from onnx import TensorProto, helper

    path = BUILD / "image.onnx"
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["means"]),
            helper.make_node("Flatten", ["means"], ["out"]),
        ],
        "image",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3])],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def once(server: Running, path: str, body: Body) -> None:
    """Ask once; any status but 200 raises."""
    request = urllib.request.Request(server.url + path, body.content, dict(body.headers))
    urllib.request.urlopen(request, timeout=30).read()


def measured(
    contender: Contender, server: Running, body: Body, connections: int, seconds: float
) -> Burst:
    """Return the figures of one burst.

    Raises:
        RuntimeError: A request failed: figures of errors are no figures.
    """
    before = server.cpu_s()
    figures = burst(server.url + contender.infer, body, connections=connections, seconds=seconds)
    cpu_s = server.cpu_s() - before
    if figures.failures:
        raise RuntimeError(f"{contender.name}: {figures.failures} of {figures.requests} failed.")
    return Burst(
        contender=contender.key,
        connections=connections,
        rps=figures.rps,
        p50_ms=figures.p50_ms,
        p99_ms=figures.p99_ms,
        cpu_us=cpu_s * US_PER_S / figures.requests,
    )


def side_by_side(
    chosen: Sequence[Contender], rounds: int, seconds: float
) -> tuple[list[Burst], dict[str, float]]:
    """Return the bursts of all rounds, and the resident memory of each contender in MiB."""
    body, bursts = digits_body(), []
    with ExitStack() as stack:
        servers = {c.key: stack.enter_context(served(c)) for c in chosen}
        for contender in chosen:
            once(servers[contender.key], contender.infer, body)
            burst(servers[contender.key].url + contender.infer, body, connections=1, seconds=1)
        for turn in range(rounds):
            for connections in CONNECTIONS:
                for contender in chosen:
                    say(f"round {turn + 1}/{rounds}, {connections} connections, {contender.name}")
                    server = servers[contender.key]
                    bursts.append(measured(contender, server, body, connections, seconds))
        return bursts, {key: server.memory_mb() for key, server in servers.items()}


def image_overhead(rounds: int, seconds: float) -> dict[str, float]:
    """Return p50 in ms of the raw backend call, of the binary request, and the difference."""
    model, body = image_model(), image_body()
    contender = contenders.ours("bentoml", model=model, key="image")
    raw: list[float] = []
    asked: list[Figures] = []
    with served(contender) as server:
        once(server, contender.infer, body)
        for turn in range(rounds):
            say(f"round {turn + 1}/{rounds}, 224 x 224 x 3 image")
            call = [BASE / "bin/python", ROOT / "benchmarks/raw_call.py", model, "image"]
            done = subprocess.run(
                [*call, str(seconds / 2)], check=True, capture_output=True, text=True
            )
            raw.append(float(done.stdout))
            url = server.url + contender.infer
            asked.append(burst(url, body, connections=1, seconds=seconds))
    call_ms = statistics.median(raw)
    request_ms = statistics.median(figures.p50_ms for figures in asked)
    return {"call_ms": call_ms, "request_ms": request_ms, "added_ms": request_ms - call_ms}


def start_up(server: str) -> dict[str, float]:
    """Return seconds to ready and MiB resident of the quickstart: first start, then warm."""
    folder = BUILD / f"quickstart-{server}"
    if not folder.exists():
        command = [BASE / "bin/scanflow-serve", "quickstart", folder, "--no-serve"]
        subprocess.run(command, check=True, capture_output=True)
        policy = folder / "policy.yaml"
        policy.write_text(policy.read_text().replace("serve:\n", f"serve:\n  server: {server}\n"))
    contender = contenders.quickstart_like(folder, f"quickstart-{server}", "quickstart")
    starts: list[float] = []
    for _ in range(4):  # the first fills the cache
        say(f"start of the quickstart, {server}")
        with served(contender) as process:
            starts.append(process.ready_s)
            image = (folder / "images/7.png").read_bytes()
            once(process, "/predict", Body(image, {"Content-Type": "image/png"}))
            memory_mb = process.memory_mb()
        time.sleep(0.5)
    return {"ready_s": statistics.median(starts[1:]), "memory_mb": memory_mb}


def say(text: str) -> None:
    """Tell what is going on."""
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print the tables, write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=108, help="of load, side by side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(CHOICES), help=f"of {','.join(CHOICES)}")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables into FILE")
    options = parser.parse_args()
    keys = options.only.split(",")
    contenders.install(frozenset(keys))
    chosen = [CHOICES[key]() for key in keys]
    seconds = max(1.0, options.seconds / (options.rounds * len(chosen) * len(CONNECTIONS)))
    bursts, memory = side_by_side(chosen, options.rounds, seconds)
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "generator": generator(),
        "bursts": [asdict(b) for b in bursts],
        "memory_mb": memory,
        "installed_mb": contenders.installed_mb(),
        "image": image_overhead(options.rounds, 2.0),
        "start": {server: start_up(server) for server in ("bentoml", "uvicorn")},
    }
    folder = ROOT / "benchmarks/results"
    folder.mkdir(exist_ok=True)
    (folder / "overhead.json").write_text(json.dumps(result, indent=2) + "\n")
    text = table(result, chosen, bursts)
    print(text)
    if options.update:
        update(options.update, "overhead", text)


if __name__ == "__main__":
    main()
