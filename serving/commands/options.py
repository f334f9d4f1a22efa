"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

policy_argument = click.argument(
    "policy", type=click.Path(path_type=Path, dir_okay=False, exists=True)
)
state_option = click.option("--state", metavar="DIR", help="Where the policy keeps what it learns.")
recalibrate_option = click.option(
    "--recalibrate", is_flag=True, help="Measure again, even what is known of this host."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON, for machines.")


def command(example: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Return the decorator of a command whose ``--help`` ends with *example*."""
    return click.command(cls=Debuggable, epilog=f"Example: scanflow-serve {example}", **settings)


class Debuggable(click.Command):
    """A command that takes ``--debug``; `cli.main` has acted on it by now."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, expose_value=False, help="Show an error's traceback."
            )
        )
