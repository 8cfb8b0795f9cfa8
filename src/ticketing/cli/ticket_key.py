"""`ticketing ticket-key`: the keys that sign codes of tickets."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from ticketing.cli.database import reachable, signing_secret
from ticketing.cli.options import DataDir, load
from ticketing.errors import StartupError
from ticketing.ops import logs
from ticketing.ops.leaving import held

if TYPE_CHECKING:
    from ticketing.door.repositories.keys import KeyRepository, TicketKey

T = TypeVar("T")

ticket_key = typer.Typer(
    help="List, rotate and retire the keys that sign codes of tickets.", no_args_is_help=True
)


@ticket_key.command("list")
def list_keys(*, data_dir: DataDir = None) -> None:
    """List the keys, the newest first. All of them verify, and one signs."""
    for each in _run(data_dir, lambda keys: keys.every()):
        typer.echo(_line(each))


@ticket_key.command()
def rotate(
    *,
    signs_in: Annotated[
        int, typer.Option("--signs-in", min=0, max=10_080, help="Minutes until it signs.")
    ] = 15,
    data_dir: DataDir = None,
) -> None:
    """Make a new key. It is published at once, and signs after some minutes.

    So verifiers know it before they see its codes. Codes that earlier keys signed stay valid.
    """
    typer.echo(_line(_run(data_dir, lambda keys: keys.rotate(signs_in))))


@ticket_key.command()
def retire(
    key: Annotated[int, typer.Argument(metavar="KEY", min=1, max=65_535, help="The key's id.")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Delete a key. Every code that it signed is invalid from then on.

    Tickets stay valid: their code is signed anew the next time that it is fetched. If no other key
    may sign yet, a running service makes one.
    """
    if not _run(data_dir, lambda keys: keys.retire(key)):
        raise StartupError(f"there is no key {key}")
    typer.echo(f"Key {key} is retired.")


def _line(key: "TicketKey") -> str:
    state = "signs" if key.signs else "verifies"
    since = key.signs_from.strftime("%Y-%m-%d %H:%M UTC")
    return f"key {key.id:<6} {state:<9} may sign from {since}"


def _run(data_dir: Path | None, work: "Callable[[KeyRepository], Awaitable[T]]") -> T:
    """Run `work` on the database. A running service notices the change within 10 seconds."""
    # Imported here, so that `serve` starts sooner and uses less memory.
    with held():
        from ticketing.db import engine, schema  # noqa: PLC0415
        from ticketing.door.repositories.keys import KeyRepository  # noqa: PLC0415
        from ticketing.web.seals import Seals  # noqa: PLC0415

    settings = load(data_dir)
    logs.configure(settings)
    seals = Seals(signing_secret(settings))
    with reachable(settings) as url, schema.naming_the_database(url):
        return engine.run(
            url, lambda pool: work(KeyRepository(pool, seals)), pooler=settings.pooler
        )
