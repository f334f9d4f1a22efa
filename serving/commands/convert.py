"""``convert``: from trained models to verified, fast files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanflow_serve.serving.commands.options import command, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from scanflow_serve.serving.conversion import Result


@command("convert digits.onnx --precision int8 --data digits.npz --input pixels --target label")
@click.argument("source", metavar="SOURCE|POLICY")
@click.option(
    "--precision",
    "precisions",
    type=click.Choice(["fp32", "fp16", "bf16", "int8", "w16", "w8"]),
    multiple=True,
    help="Only this one; may be repeated.",
)
@click.option(
    "--backend",
    "backends",
    type=click.Choice(["onnxruntime", "openvino"]),
    multiple=True,
    help="Only for this one; may be repeated.",
)
@click.option(
    "--for",
    "host_file",
    metavar="HOST.json",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Convert for the machine whose 'profile --json' this is; measures nothing.",
)
@click.option(
    "--data",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Rows of a SOURCE, .npz or .csv: int8 is calibrated on them.",
)
@click.option("--input", "inputs", metavar="NAME", multiple=True, help="Array or column of --data.")
@click.option("--target", metavar="NAME", help="Array or column of --data with the labels.")
@click.option(
    "--weights",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="What torch:module:factory loads: .safetensors, .pt or .pth.",
)
@click.option(
    "--inputs",
    "takes",
    metavar="NAME:SHAPE[:DTYPE]",
    multiple=True,
    help="What the SOURCE takes, if it doesn't say, such as pixels:-1,64; may be repeated.",
)
@click.option(
    "--trust-pickle",
    "consent",
    metavar="'I trust this file'",
    help="These words let a pickle be loaded, which runs what its author put into it.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Copy the files that may be served into this folder, too.",
)
@json_option
def convert(
    source: str,
    precisions: tuple[str, ...],
    backends: tuple[str, ...],
    host_file: Path | None,
    data: Path | None,
    inputs: tuple[str, ...],
    target: str | None,
    weights: Path | None,
    takes: tuple[str, ...],
    consent: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Convert a model, or all models of a policy, and say how the outcome does.

    SOURCE is what a policy takes as 'source:', a file or an address such as models:/digits/3.
    Every file is held to the source's answers before it is kept; one that differs is refused, with
    its figures. A second call finds what the first one made.
    """
    import json

    from scanflow_serve.runtime.host.profile import profile_host
    from scanflow_serve.runtime.host.recorded import load_profile
    from scanflow_serve.serving import conversion, report
    from scanflow_serve.serving.progress import progress
    from scanflow_serve.serving.source_policy import Given, policy_or_source

    given = Given(data, inputs, target, weights, takes, consent)
    policy_file = policy_or_source(source, given)
    policy_file = conversion.restricted(policy_file, precisions, backends)
    host = load_profile(host_file) if host_file is not None else profile_host()
    with progress("converting") as shown:
        results = conversion.convert(policy_file, host, here=host_file is None, progress=shown)
    written = conversion.write(results, output) if output is not None else []
    if as_json:
        value = {
            "host": host.fingerprint,
            "results": [result.to_json() for result in results],
            "written": [str(path) for path in written],
        }
        click.echo(json.dumps(value, indent=2))
    else:
        report.console().print(result_table(results, title=source))
        for path in written:
            click.echo(f"wrote {path}")
    if all(result.refusal is not None for result in results):
        raise click.exceptions.Exit(1)


def result_table(results: Sequence[Result], *, title: str) -> Table:
    """Return a row for each variant: size, speed, quality, and whether it may be served."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left")
    table.add_column("variant", no_wrap=True)
    for name in ("size, MB", "p50, ms", "speed-up", "accuracy", "drop", "agreement"):
        table.add_column(name, justify="right")
    table.add_column("verdict", overflow="fold", min_width=24)
    for result in results:
        size = result.artifact.size_bytes / 2**20 if result.artifact is not None else None
        cells = (
            result.variant.id,
            _number(size, ".3g"),
            _number(result.p50_ms, ".3g"),
            _number(result.speed_up, ".2f") + ("x" if result.speed_up is not None else ""),
            _number(result.accuracy, ".3f"),
            _number(result.drop, ".3f"),
            _number(result.agreement, ".1%"),
            _verdict(result),
        )
        style = "dim" if result.refusal is not None else None
        table.add_row(*map(Text, cells), style=style)
    return table


def _verdict(result: Result) -> str:
    """Return the verdict, and what a file is in effect where that is not what was asked for."""
    if result.refusal is not None:
        return f"refused: {result.refusal.reason}"
    found = result.artifact
    if found is None or set(found.manifest.effective.values()) <= {found.precision}:
        return "ok"
    shares = (f"{kind} {share:.0%}" for kind, share in found.manifest.weights.items())
    return f"ok, but most weights could not be converted: {', '.join(shares)}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
