"""``simulate``: how a policy would do under load, before it is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from scanflow_serve.serving.commands.options import command, json_option, policy_argument

if TYPE_CHECKING:
    from rich.table import Table

    from scanflow_serve.serving.simulation import Simulation


@command("simulate digits.yaml --trace spike:base=50,peak=800,at=20,width=5 --compare")
@policy_argument
@click.option(
    "--trace",
    required=True,
    metavar="FILE|LOAD",
    help="Arrivals in a .csv or .jsonl file, or drawn: poisson:rate=200, gamma:rate=200,cv2=4, "
    "mmpp:low=50,high=400,dwell_s=5, step:low=50,high=400,at=30, spike:base=50,peak=800,at=20,"
    "width=5; each also takes seconds= and rows=.",
)
@click.option(
    "--for",
    "host_file",
    metavar="HOST.json",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Simulate the machine whose 'profile --json' this is; needs --measurements.",
)
@click.option(
    "--measurements",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Figures that 'calibrate --json' wrote there, instead of this host's.",
)
@click.option(
    "--deadline-ms",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True),
    help="Of requests whose trace names none, instead of the policy's.",
)
@click.option(
    "--seconds",
    metavar="N",
    type=click.FloatRange(min=0, min_open=True, max=86_400),
    help="Length of the trace, instead of its own; of a file, its first seconds.",
)
@click.option(
    "--seed", metavar="N", default=0, show_default=True, help="Other arrivals, other calls."
)
@click.option(
    "--overhead-ms",
    metavar="N",
    type=click.FloatRange(min=0),
    help="CPU of one request beside inference; default: 0.2, as benchmarks/overhead.py measures.",
)
@click.option(
    "--compare",
    is_flag=True,
    help="Also run each variant alone, rate thresholds, slack only; and bound what is possible.",
)
@click.option(
    "--plot",
    metavar="FILE.svg|png",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw load, variants and misses over time.",
)
@json_option
def simulate(
    policy: Path,
    trace: str,
    host_file: Path | None,
    measurements: Path | None,
    deadline_ms: float | None,
    seconds: float | None,
    seed: int,
    overhead_ms: float | None,
    compare: bool,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Replay arrivals through the scheduler, on what was measured of POLICY's variants.

    Nothing is served and no model is run. Effective accuracy is the accuracy of the answers that
    came inside their deadline, summed over all requests.
    """
    import json

    from scanflow_serve.serving import report
    from scanflow_serve.serving import simulation as simulated
    from scanflow_serve.serving.progress import progress

    if plot is not None:
        simulated.check_plot(plot)
    arrivals = simulated.arrivals(trace, seed, seconds)
    subject = simulated.subject(policy, host_file, measurements, deadline_ms, overhead_ms)
    with progress("simulating") as shown:
        found = simulated.simulate(
            subject, arrivals, trace=trace, seed=seed, compare=compare, progress=shown
        )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        report.console().print(result_table(found))
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    if plot is not None:
        simulated.draw(found, plot)
        if not as_json:
            click.echo(f"wrote {plot}")


def result_table(found: Simulation) -> Table:
    """Return a row for each strategy, ours first, and one for the bound of all."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    alone = {option.variant for option in found.subject.setting.options}
    table = Table(title=found.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0))
    table.add_column("strategy, and its answers", overflow="fold")
    for name in ("effective\naccuracy", "misses,\n%", "refused", "dropped", "late"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("p50,\nms", "p99,\nms", "in time,\n1/s", "switches,\n1/min", "rows a\ncall"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in (run.result for run in found.runs):
        shares = [f"\n {share:.1%} {name}" for name, share in each.shares.items()]
        cells = (
            "".join((each.strategy, *(() if each.strategy in alone else shares))),
            f"{each.effective_accuracy:.4f}",
            *(f"{100 * x:.2f}" for x in (each.misses, each.refused, each.dropped, each.late)),
            f"{each.p50_ms:.3g}",
            f"{each.p99_ms:.3g}",
            f"{each.goodput_rps:.4g}",
            f"{each.switches_per_minute:.0f}",
            f"{each.mean_batch:.3g}",
        )
        table.add_row(*map(Text, cells))
    if found.optimum is not None:
        table.add_row("no strategy exceeds", f"{found.optimum:.4f}", style="dim")
    return table
