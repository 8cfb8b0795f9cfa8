"""`ticketing user`: accounts, passwords, rights and logout."""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from ticketing.cli.database import reachable
from ticketing.cli.options import DataDir, load
from ticketing.errors import PasswordTooCommon, StartupError, UsernameTaken, UserNotFound
from ticketing.ops import logs
from ticketing.ops.leaving import held

if TYPE_CHECKING:
    from ticketing.identity.operator import Operator
    from ticketing.identity.repositories.password_tokens import PasswordToken

T = TypeVar("T")

LONGEST_LINE: Final = 4096
"""Bytes of a password that are read; more than it may have."""

user = typer.Typer(
    help="Manage accounts, passwords and rights, and log people out.", no_args_is_help=True
)

Username = Annotated[str, typer.Argument(metavar="NAME", help="A username.")]
FromStdin = Annotated[
    bool,
    typer.Option("--password-stdin", help="Read the password from standard input and set it."),
]


@user.command()
def add(name: Username, *, password_stdin: FromStdin = False, data_dir: DataDir = None) -> None:
    """Add a user and print a token that sets their password.

    The token can be used once, within 24 hours. The user sends it to POST /api/users/password with
    a new password. This also works if registration is closed.
    """
    # Imported here, so that `serve` starts sooner and uses less memory.
    with held():
        from ticketing.identity import fields  # noqa: PLC0415

    if not _is_valid(TypeAdapter(fields.Username), name):
        raise StartupError("NAME: must have 3 to 30 of A-Z a-z 0-9 . _ -")
    if password_stdin:
        given = _read_password()
        _run(name, data_dir, lambda operator: operator.add_with_password(name, given))
        typer.echo(f"{name} has an account.")
    else:
        _show(name, _run(name, data_dir, lambda operator: operator.add(name)))


@user.command()
def password(
    name: Username, *, password_stdin: FromStdin = False, data_dir: DataDir = None
) -> None:
    """Print a token that sets a new password for a user.

    The token can be used once, within 24 hours. The user sends it to POST /api/users/password with
    a new password. Until then the old password is valid. A newer token replaces this one.
    """
    if password_stdin:
        given = _read_password()
        _run(name, data_dir, lambda operator: operator.set_password(name, given))
        typer.echo(f"{name} has a new password and no active session.")
    else:
        _show(name, _run(name, data_dir, lambda operator: operator.make_token(name)))


@user.command()
def promote(name: Username, *, data_dir: DataDir = None) -> None:
    """Make a user an admin of the site.

    An admin may do everything that the owner of any event may do.
    """
    _run(name, data_dir, lambda operator: operator.access.promote(name))
    typer.echo(f"{name} is an admin.")


@user.command()
def demote(name: Username, *, data_dir: DataDir = None) -> None:
    """Revoke a user's admin role."""
    _run(name, data_dir, lambda operator: operator.access.demote(name))
    typer.echo(f"{name} is not an admin.")


@user.command()
def grant_organiser(name: Username, *, data_dir: DataDir = None) -> None:
    """Let a user create events if TICKETING_ORGANISERS is `granted`."""
    _run(name, data_dir, lambda operator: operator.organisers.grant_by_name(name))
    typer.echo(f"{name} is an organiser.")


@user.command()
def revoke_organiser(name: Username, *, data_dir: DataDir = None) -> None:
    """Revoke a user's right to create events.

    The user keeps the events that they created.
    """
    _run(name, data_dir, lambda operator: operator.organisers.revoke_by_name(name))
    typer.echo(f"{name} is not an organiser.")


@user.command()
def logout(name: Username, *, data_dir: DataDir = None) -> None:
    """End all sessions of a user. Their API keys stay valid."""
    _run(name, data_dir, lambda operator: operator.access.log_out(name))
    typer.echo(f"{name} has no active session.")


def _run(name: str, data_dir: Path | None, work: "Callable[[Operator], Awaitable[T]]") -> T:
    """Run `work` on the database. A running service notices the change in about a second."""
    # Imported here for the same reason.
    with held():
        from ticketing.db import engine, schema  # noqa: PLC0415
        from ticketing.identity.operator import Operator  # noqa: PLC0415

    settings = load(data_dir)
    logs.configure(settings)
    with reachable(settings) as url, schema.naming_the_database(url):
        try:
            _require_ascii(name)
            return engine.run(
                url,
                lambda pool: work(Operator(pool, settings.bcrypt_rounds)),
                pooler=settings.pooler,
            )
        except UserNotFound as error:
            raise StartupError(f"there is no user {name!r}") from error
        except UsernameTaken as error:
            raise StartupError(f"the username {name!r} is taken") from error
        except PasswordTooCommon as error:
            raise StartupError(f"the password is refused: {error.detail}") from error


def _require_ascii(name: str) -> None:
    """Raise UserNotFound for a name that no user can have: its lower case may be another's name."""
    if not name.isascii():
        raise UserNotFound


def _read_password() -> str:
    """Return the first line of standard input, without echo. Raises StartupError."""
    with held():
        from ticketing.identity import fields  # noqa: PLC0415

    if sys.stdin.isatty():
        given = str(typer.prompt("Password", hide_input=True, err=True))
    else:
        line = sys.stdin.buffer.readline(LONGEST_LINE)
        given = line.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    if not _is_valid(TypeAdapter(fields.Password), given):
        raise StartupError("--password-stdin: a password has 8 to 128 characters, in UTF-8")
    return given


def _is_valid(kind: TypeAdapter[str], value: str) -> bool:
    try:
        kind.validate_python(value)
    except ValidationError:
        return False
    return True


def _show(name: str, made: "PasswordToken") -> None:
    """Print the token to standard output, for scripts, and its meaning to standard error."""
    until = made.expires_at.strftime("%Y-%m-%d %H:%M UTC")
    typer.echo(
        f"This token sets the password of {name} once at POST /api/users/password, until {until}:",
        err=True,
    )
    typer.echo(made.token)
