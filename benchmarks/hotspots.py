"""Where a request's and a start's time goes: processor time, which a busy machine does not change.

    python benchmarks/hotspots.py [--requests 5000]

One row of 64 floats to `/predict`, answered, or refused because its deadline can't be met, through
the whole application in this process, without sockets;
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanflow_serve.runtime.engine import Engine
    from scanflow_serve.runtime.events import Event
    from scanflow_serve.runtime.prepared import Prepared
    from scanflow_serve.serving.home import Successor

ROOT = Path(__file__).parents[1]
PACKAGE = re.compile(r"(?:scanflow_serve|main|/)(policies|runtime|converters|serving)/(.+)\.py$")
LINES = 14


class Stay:
    """The home of one policy, which nothing follows."""

    state = None

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    def start(self, notify: Callable[[Event], None]) -> Engine:
        """Return the loaded engine."""
        from scanflow_serve.runtime.engine import Engine

        return Engine(self._prepared, notify=notify)

    async def successor(self, *_: object) -> Successor:
        """Refuse: nothing follows."""
        raise NotImplementedError


def scope(headers: Sequence[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
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
        "headers": [
            (b"host", b"127.0.0.1:3000"),
            (b"content-type", b"application/json"),
            *headers,
        ],
    }


async def ask(app: Any, body: bytes, times: int, *, refused: bool) -> None:
    """Send *times* requests, one after another, with a deadline that none can meet if *refused*."""
    headers = [(b"scanflow-deadline-ms", b"0.001" if refused else b"1000")]
    wanted = 504 if refused else 200

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and message["status"] != wanted:
            raise SystemExit(f"/predict must answer {wanted}, got {message['status']}")

    for _ in range(times):
        await app(scope(headers), receive, send)


async def profiled(requests: int, *, refused: bool) -> tuple[float, pstats.Stats]:
    """Return processor microseconds a request, unprofiled, and the profile of as many again."""
    from scanflow_serve.policies.loader import load_policy
    from scanflow_serve.runtime.host.profile import profile_host
    from scanflow_serve.serving.app import Application
    from scanflow_serve.serving.composition import prepared

    policy = load_policy(ROOT / "tests/contract/quickstart.yaml")
    app = Application(Stay(prepared(policy, profile_host())))
    await app.startup()
    body = b'{"inputs": [[%s]]}' % b", ".join(b"%d.0" % (n % 17) for n in range(64))
    await ask(app, body, requests // 10, refused=refused)
    begun = time.process_time()
    await ask(app, body, requests, refused=refused)
    cpu_us = (time.process_time() - begun) / requests * 1e6
    profile = cProfile.Profile()
    profile.enable()
    await ask(app, body, requests, refused=refused)
    profile.disable()
    await app.shutdown()
    return cpu_us, pstats.Stats(profile)


def print_request(requests: int, *, refused: bool) -> None:
    """Print where a request's time goes, by the function that spends it itself."""
    cpu_us, stats = asyncio.run(profiled(requests, refused=refused))
    functions: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for (file, _, function), (_, _, tottime, _, _) in stats.stats.items():  # type: ignore[attr-defined]
        found = PACKAGE.search(file)
        place = f"{found[1]}/{found[2]}" if found else Path(file).name
        functions[f"{place} {function}"] += tottime
        runs = "onnxruntime" in function or "onnxruntime" in file
        ours = f"{found[1]}/{found[2].split('/')[0]}" if found else "Python and libraries"
        parts["onnxruntime" if runs else ours] += tottime
    end = "refused" if refused else "answered"
    print(f"\n/predict, {end}, in process: {cpu_us:.0f} us of processor time a request.")
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
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("SCANFLOW_CACHE", folder)
        print_request(options.requests, refused=False)
        print_request(options.requests, refused=True)
    print_imports()


if __name__ == "__main__":
    main()
