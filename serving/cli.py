"""The command line: ``scanflow-serve COMMAND``; what a command imports is imported when it runs."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import click

from scanflow_serve.policies.errors import ScanflowError

# name -> (module:command, one line for --help)
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run:run", "Prepare a policy on this host and serve it."),
    "plan": ("plan:plan", "Say what would run on this host, and why."),
    "profile": ("host:profile", "Say what this host is and can do."),
    "validate": ("policy:validate", "Check a policy and every file that it names."),
    "schema": ("policy:schema", "Print the JSON Schema of policy files."),
    "calibrate": ("plan:calibrate", "Measure every variant of a policy on this host."),
    "simulate": ("simulate:simulate", "Replay a load on what was measured, before you deploy."),
    "check": ("check:check", "Run a policy's checks over a file of rows."),
    "fit-checks": ("fit_checks:fit_checks", "Train the detectors that a policy's checks need."),
    "convert": ("convert:convert", "Convert models, verify them, and say how they do."),
    "quickstart": ("quickstart:quickstart", "Write a folder with a first policy and serve it."),
    "artifacts": ("artifacts:artifacts", "List, verify, publish and fetch converted models."),
    "keys": ("keys:keys", "Make and list the bearer keys of clients."),
}
MODULE = "scanflow_serve.serving.commands"


class Commands(click.Group):
    """A group that imports a command when it is asked for; a policy file means ``run``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of a newcomer's day."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return the command, imported now."""
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        command: click.Command = getattr(importlib.import_module(f"{MODULE}.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of *args*; ``POLICY …`` is ``run POLICY …``."""
        if args[0] not in COMMANDS and args[0].endswith((".yaml", ".yml")):
            args = ["run", *args]
        return super().resolve_command(ctx, args)


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: scanflow-serve quickstart",
)
@click.version_option(version("scanflow-serve"), prog_name="scanflow-serve")
def cli() -> None:
    """Find, prepare and serve the model variant that fits this host best.

    'scanflow-serve POLICY.yaml' is 'scanflow-serve run POLICY.yaml'. Every command takes --help
    and --debug. Exit code: 0 ok, 1 failed, 2 usage or bad policy.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        sys.exit(cli.main(args=arguments, prog_name="scanflow-serve", standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(fail("interrupted.", 130))
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ScanflowError as error:
        if debug:
            raise
        sys.exit(fail(str(error), error.exit_code))
    except BrokenPipeError:  # `scanflow-serve plan … | head`
        sys.exit(_quiet_pipe())
    except Exception as error:
        if debug:
            raise
        sys.exit(fail(f"{type(error).__name__}: {error}. This is a bug; --debug shows where.", 1))


def fail(text: str, code: int) -> int:
    """Write *text* to stderr and return *code*."""
    print(text, file=sys.stderr)
    return code


def _quiet_pipe() -> int:
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    main()
