"""The command itself: its commands, and how it ends."""

import signal
import sys
from typing import Annotated

import typer

from ticketing import __version__
from ticketing.cli.audit import audit
from ticketing.cli.backup import back_up, restore
from ticketing.cli.leaving import leave
from ticketing.cli.migrate import migrate
from ticketing.cli.serve import serve
from ticketing.cli.user import user
from ticketing.errors import StartupError

cli = typer.Typer(
    help="An event ticket booking service that never oversells.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # With it, a flag is said to take a <bool>.
)
cli.command()(serve)
cli.command()(migrate)
cli.command()(audit)
cli.command("backup")(back_up)
cli.command()(restore)
cli.add_typer(user, name="user")


def main() -> None:
    """Run the command; a StartupError ends it with one line and status 1.

    So does a file that it may not use.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    try:
        cli()
    except StartupError as error:
        sys.stderr.write(f"ticketing: {error}\n")
        sys.exit(1)
    except PermissionError as error:
        sys.stderr.write(f"ticketing: {error.filename} can't be used: {error.strerror}\n")
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # It has ended, but for the interpreter.


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"ticketing {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")
    ] = False,
) -> None:
    """Take the options that go before a command."""
