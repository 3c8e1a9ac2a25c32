"""The command line: a lazy group of verbs, and the one place where errors become exit codes.

Each verb is the object ``command`` of the module of its name and is imported when it is called, so that
help costs nothing. Exit codes: 0 done, 2 wrong input, 1 the run failed, 130 stopped.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import click

from bioplaus.errors import BioplausError, nearest

VERBS = {
    "run": "Train a network by a rule on a data set; write one run folder.",
    "resume": "Go on from the last checkpoint of a run.",
    "evaluate": "Score the network of a run.",
    "prune": "Show what is left of a pruned network.",
    "generate": "Draw what a generative network would: reconstructions, samples, templates, filters.",
    "trace": "Follow one test image up and down a generative network.",
    "inspect": "Show what the log of a run holds.",
    "list": "List parts, rules and networks.",
    "show": "Show what a part, rule or network is.",
    "check": "Validate a YAML file, or run the contract on a part.",
    "schema": "Write the JSON Schema of rule and network files.",
    "new-rule": "Make a working plug-in package.",
    "data": "Download or verify a data set.",
}


class Verbs(click.Group):
    """A group that knows its verbs by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order a user meets them."""
        return [*VERBS]  # no list() here: once imported, the verb `list` has that name in this module

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb's command; None for an unknown verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"bioplaus.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb in front of the arguments; an unknown one is answered with the nearest."""
        if args[0] not in VERBS:
            raise click.UsageError(f"no verb named {args[0]!r}{nearest(args[0], VERBS)} See `bioplaus --help`.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs' lines, from the table instead of from their modules."""
        with formatter.section("Verbs"):
            formatter.write_dl([*VERBS.items()])


@click.group(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(None, "--version", package_name="bioplaus", message="%(prog)s %(version)s")
@click.pass_context
def bioplaus(ctx: click.Context) -> None:
    """Train networks by biologically plausible learning rules, and look at what every layer did."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; every error a user can make is one line on stderr."""
    try:
        code = bioplaus.main(args=args, prog_name="bioplaus", standalone_mode=False)
    except BioplausError as error:
        return _say(str(error), error.exit_code)
    except click.ClickException as error:
        return _say(" ".join(error.format_message().split()), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _say("stopped.", 130)
    return code if isinstance(code, int) else 0


def _say(message: str, code: int) -> int:
    click.echo(f"bioplaus: {message}", err=True)
    return code
