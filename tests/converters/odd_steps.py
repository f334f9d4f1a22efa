"""Steps that go wrong as native converters do: run by the tests in a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from scanflow_serve.converters.conversion import Context
from scanflow_serve.policies.errors import ArtifactError


def crash(source: Path, folder: Path, context: Context) -> Path:
    (folder / "half.bin").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def hang(source: Path, folder: Path, context: Context) -> Path:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    source.with_name("pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
    raise AssertionError


def grow(source: Path, folder: Path, context: Context) -> Path:
    grown = bytearray(2**34)
    return folder / str(len(grown))


def refuse(source: Path, folder: Path, context: Context) -> Path:
    raise ArtifactError(f"{source}: must be nice.")


def fail(source: Path, folder: Path, context: Context) -> Path:
    raise KeyError("what nobody foresaw")


def copy(source: Path, folder: Path, context: Context) -> Path:
    print("a library talks")
    path = folder / "model.bin"
    told = f"{context.rows} {sorted(context.features)} {context.options}"
    path.write_text(f"{source.read_text()}|{told}")
    path.with_name("companion").write_text("")
    return path


def poison_onnx(source: Path, folder: Path, context: Context) -> Path:
    """Write *source* with wrong weights: a converter's bug, which shows in answers alone."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(source)
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.dtype.kind == "f":
            tensor.CopyFrom(numpy_helper.from_array(weights[::-1].copy(), tensor.name))
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def poison_openvino(source: Path, folder: Path, context: Context) -> Path:
    import openvino

    path = folder / "model.xml"
    poisoned = poison_onnx(source, folder, context)
    openvino.save_model(openvino.convert_model(poisoned), path, compress_to_fp16=False)
    poisoned.unlink()
    return path
