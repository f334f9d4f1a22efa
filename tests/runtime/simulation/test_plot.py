from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from scanflow_serve.policies.errors import MissingExtraError, UsageError
from scanflow_serve.runtime.simulation.plot import check_format, write
from scanflow_serve.runtime.simulation.results import Timeline

SHOWN = Timeline(
    step_s=0.5,
    load_rps=[10.0, 40.0, 20.0],
    misses_rps=[0.0, 4.0, 0.0],
    answers_rps={"cnn/openvino-int8x2": [10.0, 16.0, 20.0], "mlp/onnxruntime-fp32x1": [0, 20, 0]},
)
NOTHING = Timeline(0.1, [5.0], [5.0], {})


def texts(path: Path) -> str:
    """Return the comments of an SVG, in which matplotlib keeps each text."""
    parser = ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    root = ElementTree.parse(path, parser).getroot()
    return "\n".join(node.text or "" for node in root.iter(ElementTree.Comment))


@pytest.mark.parametrize("shown", [SHOWN, NOTHING], ids=["answers", "no answer"])
def test_svg_shows_load_variants_and_misses(tmp_path: Path, shown: Timeline) -> None:
    write(tmp_path / "run.svg", shown, "digits: 35 requests")
    found = texts(tmp_path / "run.svg")
    for text in ("digits: 35 requests", "requests/s", "misses/s", *shown.answers_rps):
        assert text in found


def test_png_is_a_picture(tmp_path: Path) -> None:
    write(tmp_path / "run.png", SHOWN, "digits")
    with Image.open(tmp_path / "run.png") as image:
        assert image.format == "PNG"
        assert image.width > 500


def test_other_formats_and_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--plot: must end with \.svg or \.png, got .*run\.pdf"):
        check_format(tmp_path / "run.pdf")
    with pytest.raises(UsageError, match=r"--plot: must lie in a folder, got .*none/run\.svg"):
        check_format(tmp_path / "none" / "run.svg")
    check_format(tmp_path / "run.svg")


def test_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.svg").mkdir()
    with pytest.raises(UsageError, match=r"run\.svg must be writable, got 'Is a directory'"):
        write(tmp_path / "run.svg", SHOWN, "digits")


def test_plot_without_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'scanflow-serve\[simulate\]'"):
        write(tmp_path / "run.svg", SHOWN, "digits")
