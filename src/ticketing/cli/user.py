"""`ticketing user`: who is an admin of the site, and logging people out."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ticketing.cli.database import reachable
from ticketing.cli.options import DataDir, load
from ticketing.errors import StartupError, UserNotFound
from ticketing.ops import logs

if TYPE_CHECKING:
    from ticketing.identity.repositories.access import AccessRepository

user = typer.Typer(
    help="Say who is an admin of the site, and log people out.", no_args_is_help=True
)

Username = Annotated[str, typer.Argument(metavar="NAME", help="A username.")]


@user.command()
def promote(name: Username, *, data_dir: DataDir = None) -> None:
    """Make a user an admin of the site.

    An admin may do whatever any event's owner may.
    """
    _change_access(name, data_dir, lambda access: access.promote(name))
    typer.echo(f"{name} is an admin.")


@user.command()
def demote(name: Username, *, data_dir: DataDir = None) -> None:
    """Take the admin role from a user."""
    _change_access(name, data_dir, lambda access: access.demote(name))
    typer.echo(f"{name} is no admin.")


@user.command()
def logout(name: Username, *, data_dir: DataDir = None) -> None:
    """End all sessions of a user; their API keys stay."""
    _change_access(name, data_dir, lambda access: access.log_out(name))
    typer.echo(f"{name} is logged in nowhere.")


def _change_access(
    name: str, data_dir: Path | None, change: "Callable[[AccessRepository], Awaitable[object]]"
) -> None:
    """Change it in the database; a running service learns of it within a second or so."""
    # As below: what `serve` does without, or the service would start later and be larger.
    from ticketing.db import engine, schema  # noqa: PLC0415
    from ticketing.identity.callers import AccessList  # noqa: PLC0415
    from ticketing.identity.repositories.access import AccessRepository  # noqa: PLC0415

    settings = load(data_dir)
    logs.configure(settings)
    with reachable(settings) as url, schema.naming_the_database(url):
        try:
            engine.run(url, lambda pool: change(AccessRepository(pool, AccessList())))
        except UserNotFound as error:
            raise StartupError(f"there is no user {name!r}") from error
