"""Where a request's and a start's time goes: processor time, which a busy machine does not change.

    python benchmarks/hotspots.py [--requests 5000]

One row of 64 floats to `/predict`, through the whole application in this process, without sockets;
then the imports of a serving process. Beside `overhead.py`, for whoever wants a figure lower.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGE = re.compile(r"(?:scanflow_serve|main|/)(policies|runtime|converters|serving)/(.+)\.py$")
LINES = 14


def scope() -> dict[str, Any]:
    """Return what uvicorn hands over for one request."""
    return {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "raw_path": b"/predict",
        "query_string": b"",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 3000),
        "headers": [(b"host", b"127.0.0.1:3000"), (b"content-type", b"application/json")],
    }


async def ask(app: Any, body: bytes, times: int) -> None:
    """Send *times* requests, one after another."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != 200:
            raise SystemExit(f"/predict answered {message['status']}")

    for _ in range(times):
        await app(scope(), receive, send)


async def profiled(requests: int) -> tuple[float, pstats.Stats]:
    """Return processor microseconds a request, unprofiled, and the profile of as many again."""
    from scanflow_serve.policies.loader import load_policy
    from scanflow_serve.runtime.engine import Engine
    from scanflow_serve.runtime.host.profile import profile_host
    from scanflow_serve.serving.app import Application
    from scanflow_serve.serving.composition import prepared

    policy = load_policy(ROOT / "tests/contract/quickstart.yaml")
    app = Application(lambda: Engine(prepared(policy, profile_host())))
    await app.startup()
    body = b'{"inputs": [[%s]]}' % b", ".join(b"%d.0" % (n % 17) for n in range(64))
    await ask(app, body, requests // 10)
    begun = time.process_time()
    await ask(app, body, requests)
    cpu_us = (time.process_time() - begun) / requests * 1e6
    profile = cProfile.Profile()
    profile.enable()
    await ask(app, body, requests)
    profile.disable()
    await app.shutdown()
    return cpu_us, pstats.Stats(profile)


def print_request(requests: int) -> None:
    """Print where a request's time goes, by the function that spends it itself."""
    cpu_us, stats = asyncio.run(profiled(requests))
    functions: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for (file, _, function), (_, _, tottime, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        found = PACKAGE.search(file)
        place = f"{found[1]}/{found[2]}" if found else Path(file).name
        functions[f"{place} {function}"] += tottime
        runs = "onnxruntime" in function or "onnxruntime" in file
        ours = f"{found[1]}/{found[2].split('/')[0]}" if found else "Python and libraries"
        parts["onnxruntime" if runs else ours] += tottime
    print(f"\n/predict, in process: {cpu_us:.0f} us of processor time a request.")
    for title, own in (("part", parts), ("function", functions)):
        print(f"\nShares by {title}:\n")
        for place, seconds in own.most_common(LINES):
            print(f"  {seconds / own.total():6.1%}  {place}")


def print_imports() -> None:
    """Print what a serving process imports, in ms of its own by package."""
    command = [sys.executable, "-X", "importtime", "-c"]
    code = "import scanflow_serve.serving.worker, scanflow_serve.serving.service as s; s.Scanflow"
    code += "; import scanflow_serve.serving.app, scanflow_serve.serving.start, onnxruntime"
    done = subprocess.run([*command, code], capture_output=True, text=True, check=True)
    own: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if found := re.match(r"import time:\s+(\d+) \|\s+\d+ \|\s*([\w.]+)", line):
            name = found[2].lstrip("_").split(".")
            own[".".join(name[:2]) if name[0] == "scanflow_serve" else name[0]] += int(found[1])
    print(f"\nimports of a serving process on BentoML: {own.total() / 1e3:.0f} ms. By package:\n")
    for package, us in own.most_common(LINES):
        print(f"  {us / 1e3:6.0f} ms  {package}")


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("SCANFLOW_CACHE", folder)
        print_request(options.requests)
    print_imports()


if __name__ == "__main__":
    main()
