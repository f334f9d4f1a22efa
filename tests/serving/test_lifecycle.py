"""From start to end: one server a state, none outlives its parent, all finish what is in flight."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import psutil
import pytest
from live_server import CONSOLE_SCRIPT, Server, announced, is_ready, running, wait_until

pytestmark = pytest.mark.slow
Serve = Callable[..., AbstractContextManager[Server]]
MODES = ["bentoml", "uvicorn"]

HELD = """
from pathlib import Path
import time

HOLD, ENTERED = (Path(__file__).with_name(name) for name in ("hold", "entered"))


def wait(logits):
    if HOLD.exists():
        ENTERED.touch()
    while HOLD.exists():
        time.sleep(0.01)
    return logits
"""


@pytest.fixture
def row(contract: Path) -> list[list[float]]:
    with np.load(contract / "data" / "digits-test.npz") as data:
        return [data["pixels"][0].astype(float).tolist()]


def policy_of(contract: Path, mode: str, **serve: str) -> Path:
    """The quickstart's policy, small and quick to measure, served in *mode*."""
    text = (contract / "quickstart.yaml").read_text()
    settings = ", ".join(f"{key}: {value}" for key, value in {"server": mode, **serve}.items())
    policy = contract / "policy.yaml"
    policy.write_text(f"{text}measurement: {{budget_s: 20}}\nserve: {{{settings}}}\n")
    return policy


@pytest.mark.parametrize("mode", MODES)
def test_server_predicts_and_ends_with_0_when_asked(
    contract: Path, server: Serve, row: list[list[float]], mode: str
) -> None:
    with np.load(contract / "data" / "digits-test.npz") as data:
        truth = int(data["label"][0])
    with server(policy_of(contract, mode)) as live:
        assert live.predict(row)["label"] in ([truth], [str(truth)])
        assert live.get("/plan")["policy"] == "digits"
        live.process.terminate()
        assert live.process.wait(timeout=60) == 0
        assert "digits-cnn on onnxruntime in fp32" in live.log.read_text()
        assert f"{live.url}/predict" in live.log.read_text()


@pytest.mark.parametrize("mode", MODES)
def test_request_in_flight_is_answered_before_the_end(
    contract: Path, server: Serve, row: list[list[float]], mode: str
) -> None:
    (contract / "held.py").write_text(HELD)
    policy = policy_of(contract, mode)
    policy.write_text(
        policy.read_text().replace(
            "      - model: [digits-mlp, digits-cnn]",
            "      - model: digits-mlp\n      - python: held:wait",
        )
        + "scheduling: {default_deadline_ms: 60000}\n"
    )
    with server(policy) as live, ThreadPoolExecutor(1) as pool:
        (contract / "hold").touch()
        answer = pool.submit(live.predict, row)
        wait_until((contract / "entered").exists, live.process, live.log)
        live.process.terminate()
        (contract / "hold").unlink()
        assert len(answer.result()["label"]) == 1
        assert live.process.wait(timeout=60) == 0


@pytest.mark.parametrize("mode", MODES)
def test_streams_of_events_do_not_hold_up_the_end(contract: Path, server: Serve, mode: str) -> None:
    with server(policy_of(contract, mode, shutdown_grace_s="600")) as live:
        request = urllib.request.Request(
            f"{live.url}/events", headers={"Accept": "text/event-stream"}
        )
        with urllib.request.urlopen(request, timeout=60) as stream:
            assert stream.readline().startswith(b":")
            live.process.terminate()
            assert live.process.wait(timeout=60) == 0
            stream.read()


def test_policy_that_was_put_is_served_after_a_restart_until_the_file_is_edited(
    contract: Path, server: Serve
) -> None:
    policy = policy_of(contract, "uvicorn")
    accepted = f"{policy.read_text()}description: accepted\n"

    def served() -> str:
        with server(policy) as live:
            return str(live.get("/policy")["text"])

    with server(policy) as live:
        request = urllib.request.Request(f"{live.url}/policy", data=accepted.encode(), method="PUT")
        request.add_header("Content-Type", "application/yaml")
        with urllib.request.urlopen(request, timeout=180) as reply:
            assert reply.status == 200
    assert served() == accepted
    assert served() == accepted
    policy.write_text(f"{policy.read_text()}# edited\n")
    assert served() == policy.read_text()
    assert served() == policy.read_text()


def test_interrupt_ends_gracefully_too(contract: Path, server: Serve) -> None:
    with server(policy_of(contract, "bentoml")) as live:
        live.process.send_signal(signal.SIGINT)
        assert live.process.wait(timeout=60) == 0


@pytest.mark.parametrize("mode", MODES)
def test_nothing_outlives_a_parent_that_was_killed(
    contract: Path, server: Serve, row: list[list[float]], mode: str
) -> None:
    policy = policy_of(contract, mode)
    with server(policy) as live:
        family = live.workers()
        assert len(family) == {"bentoml": 1, "uvicorn": 0}[mode]
        os.kill(live.process.pid, signal.SIGKILL)
        live.process.wait()
        _, alive = psutil.wait_procs(family, timeout=2)
        assert not alive
        with socket.socket() as free:  # the port is
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", live.port))
        with server(policy, "--port", str(live.port), state=live.state) as successor:
            assert successor.port == live.port
            assert len(successor.predict(row)["label"]) == 1


def test_killed_worker_is_replaced_and_serves(
    contract: Path, server: Serve, row: list[list[float]]
) -> None:
    policy = policy_of(contract, "bentoml")
    with server(policy) as live:
        (worker,) = live.workers()
        policy.write_text("edited: meanwhile")  # what was planned is served on
        worker.kill()
        psutil.wait_procs([worker], timeout=10)
        wait_until(lambda: is_ready(live.url), live.process, live.log)
        assert len(live.predict(row)["label"]) == 1
        assert live.workers() != [worker]
        assert "the worker died (-9); starting another" in live.log.read_text()


def test_server_that_can_no_longer_load_its_plan_says_why_and_ends(
    contract: Path, server: Serve
) -> None:
    with server(policy_of(contract, "bentoml")) as live:
        (worker,) = live.workers()
        (live.state / "plan.json").write_text("not a plan")
        worker.kill()
        assert live.process.wait(timeout=120) == 1
        log = live.log.read_text()
        assert f"scanflow-serve: {live.state / 'plan.json'}: must be JSON" in log
        assert "before it was ready; giving up" in log
        assert "Traceback" not in log


def test_worker_that_was_started_early_ends_with_a_run_that_failed(
    contract: Path, server: Serve, shared_cache: dict[str, str]
) -> None:
    policy = policy_of(contract, "bentoml")
    with server(policy) as live:
        live.process.terminate()
        live.process.wait(timeout=60)
    elsewhere = "- {when: host.kind == 'no such kind', run: classify}"
    policy.write_text(policy.read_text().replace("- run: classify", elsewhere))
    before = {process.pid for process in psutil.process_iter()}
    done = subprocess.run(
        [CONSOLE_SCRIPT, "run", policy, "--port", "0", "--state", live.state],
        env=os.environ | shared_cache,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1
    assert "the `when` of one target must hold on this host" in done.stderr
    mine = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in before and str(live.state) in " ".join(process.info["cmdline"] or [])
    ]
    assert not psutil.wait_procs(mine, timeout=5)[1]


def test_quickstart_is_served_by_one_command(
    tmp_path: Path, shared_cache: dict[str, str], row: list[list[float]]
) -> None:
    command = [str(CONSOLE_SCRIPT), "quickstart", "mine", "--port", "0"]
    with running(command, tmp_path / "logs", shared_cache, cwd=tmp_path) as process:
        log = tmp_path / "logs" / "log"

        def announced_url() -> str:
            states = list((tmp_path / "mine" / "state").glob("*/server.json"))
            return announced(process, states[0].parent) if states else ""

        url = wait_until(announced_url, process, log)
        wait_until(lambda: is_ready(url), process, log)
        live = Server(url, process, tmp_path / "mine" / "state", log)
        assert len(live.predict(row)["label"]) == 1


def test_policy_file_as_the_command_means_run(contract: Path, shared_cache: dict[str, str]) -> None:
    policy = policy_of(contract, "uvicorn")
    state = contract / "state"
    command = [str(CONSOLE_SCRIPT), str(policy), "--port", "0", "--state", str(state)]
    with running(command, state, shared_cache) as process:
        url = wait_until(lambda: announced(process, state), process, state / "log")
        wait_until(lambda: is_ready(url), process, state / "log")


def refused(policy: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [CONSOLE_SCRIPT, "run", policy, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environ,
    )
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done


def test_state_and_port_of_a_live_server_are_refused(contract: Path, server: Serve) -> None:
    policy = policy_of(contract, "uvicorn")
    with server(policy) as live:
        state = refused(policy, "--port", "0", "--state", str(live.state))
        assert state.returncode == 1
        assert f"got a server with pid {live.process.pid}" in state.stderr
        port = refused(policy, "--port", str(live.port), "--state", str(contract / "other"))
        assert port.returncode == 1
        assert f"127.0.0.1:{live.port}: the port must be free" in port.stderr


def test_open_address_without_keys_is_refused_before_anything_is_measured(contract: Path) -> None:
    policy = policy_of(contract, "uvicorn")
    done = refused(policy, "--bind", "0.0.0.0", SCANFLOW_CACHE=str(contract / "cache"))
    assert done.returncode == 2
    assert "auth: {keys_from_env: SCANFLOW_KEYS}" in done.stderr
    assert not (contract / "cache").exists()


def test_missing_keys_are_told_before_anything_is_measured(contract: Path) -> None:
    policy = policy_of(contract, "uvicorn", auth="{keys_from_env: NO_SUCH_KEYS}")
    done = refused(policy, SCANFLOW_CACHE=str(contract / "cache"))
    assert done.returncode == 2
    assert "NO_SUCH_KEYS" in done.stderr
    assert not (contract / "cache").exists()


def test_certificate_that_is_none_is_told_before_anything_is_measured(contract: Path) -> None:
    (contract / "cert.pem").write_text("nothing of the kind")
    tls = "{certificate: cert.pem, key: cert.pem}"
    policy = policy_of(contract, "uvicorn", tls=tls)
    done = refused(policy, SCANFLOW_CACHE=str(contract / "cache"))
    assert done.returncode == 2
    assert "serve.tls: must name a PEM certificate and its key" in done.stderr
    assert not (contract / "cache").exists()


def test_image_that_the_model_does_not_take_is_refused_before_a_url_is_told(
    contract: Path, shared_cache: dict[str, str]
) -> None:
    image = "{mode: L, width: 9, height: 8, layout: flat}"
    done = refused(policy_of(contract, "bentoml", image=image), "--port", "0", **shared_cache)
    assert done.returncode == 2
    assert "serve.image: must give a row of input 'pixels' its shape [64]" in done.stderr


def test_bad_policy_is_refused_with_its_faults(contract: Path) -> None:
    done = refused(contract / "full.yaml")
    assert done.returncode == 2
    (fault,) = done.stderr.splitlines()
    assert "full.yaml:" in fault


@pytest.mark.parametrize("mode", MODES)
def test_tls_is_served(contract: Path, server: Serve, row: list[list[float]], mode: str) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the test's certificate, is not installed")
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out"
    subprocess.run(
        ["openssl", *make.split(), "cert.pem"], cwd=contract, check=True, capture_output=True
    )
    policy = policy_of(contract, mode, tls="{certificate: cert.pem, key: key.pem}")
    with server(policy) as live:
        assert live.url.startswith("https://")
        assert len(live.predict(row)["label"]) == 1
        shown = ssl.get_server_certificate(("127.0.0.1", live.port))
        assert shown.split() == (contract / "cert.pem").read_text().split()


def test_nothing_is_written_beside_state_and_cache(
    contract: Path, server: Serve, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    policy = policy_of(contract, "bentoml")
    with server(policy, environ={"HOME": str(home)}) as live:
        live.get("/host")
    assert list(home.iterdir()) == []
