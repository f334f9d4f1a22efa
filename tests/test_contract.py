"""The copy of the contract in this repository is the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared" / "contract"  # beside the checkout, where the project is made


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {"__pycache__", "state"} & set(path.relative_to(folder).parts)
    }


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no {SHARED}: not where the project is made")
def test_copy_equals_the_shared_contract() -> None:
    assert contents(HERE / "contract") == contents(SHARED)


def test_copy_holds_the_three_policies_and_what_they_name() -> None:
    held = set(contents(HERE / "contract"))
    assert {"quickstart.yaml", "targets.yaml", "full.yaml", "steps.py"} <= held
    assert {f"models/digits-{name}.onnx" for name in ("linear", "mlp", "cnn", "cnn-large")} <= held
