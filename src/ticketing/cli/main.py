"""The `ticketing` command: its subcommands, and its exit status."""

import signal
import sys
from typing import Annotated, NoReturn

import typer

from ticketing import __version__
from ticketing.cli.audit import audit
from ticketing.cli.backup import back_up, restore
from ticketing.cli.check import check
from ticketing.cli.deliver import deliver
from ticketing.cli.help import CONTEXT, Command, Group, Serve
from ticketing.cli.imports import imports
from ticketing.cli.migrate import migrate
from ticketing.cli.serve import serve
from ticketing.cli.ticket_key import ticket_key
from ticketing.cli.user import user
from ticketing.errors import StartupError
from ticketing.ops.colour import RED, has_colours, painted
from ticketing.ops.leaving import leave

SERVING, DATABASE, ACCOUNTS, TICKETS = "Service", "Database", "Accounts", "Tickets"

cli = typer.Typer(
    help="Sell places at events, and never sell one twice.",
    epilog="`ticketing COMMAND -h` describes a command. `ticketing serve -h` lists every setting.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # It draws boxes even in a pipe, and shows a flag as <bool>.
    cls=Group,
    context_settings=CONTEXT,
)
cli.command(cls=Serve, rich_help_panel=SERVING)(serve)
cli.command(cls=Command, rich_help_panel=SERVING)(deliver)
cli.command(cls=Command, rich_help_panel=DATABASE)(migrate)
cli.command(cls=Command, rich_help_panel=DATABASE)(check)
cli.command(cls=Command, rich_help_panel=DATABASE)(audit)
cli.command("backup", cls=Command, rich_help_panel=DATABASE)(back_up)
cli.command(cls=Command, rich_help_panel=DATABASE)(restore)
cli.add_typer(imports, name="import", cls=Group, rich_help_panel=DATABASE)
cli.add_typer(user, name="user", cls=Group, rich_help_panel=ACCOUNTS)
cli.add_typer(ticket_key, name="ticket-key", cls=Group, rich_help_panel=TICKETS)
for each in (
    *user.registered_commands,
    *ticket_key.registered_commands,
    *imports.registered_commands,
):
    each.cls = Command


def main() -> None:
    """Run the command. A StartupError ends it with one line and status 1.

    A file without permission ends it in the same way.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    try:
        cli()
    except StartupError as error:
        _refuse(str(error))
    except PermissionError as error:
        _refuse(f"{error.filename} can't be used: {error.strerror}")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Only the interpreter's exit is left.


def _refuse(why: str) -> NoReturn:
    name = painted("ticketing:", RED) if has_colours(sys.stderr) else "ticketing:"
    sys.stderr.write(f"{name} {why}\n")
    sys.exit(1)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"ticketing {__version__}")
        raise typer.Exit


@cli.callback()
def options(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Handle the options before a command."""
