"""`ticketing import`: events, customers and bookings from a file, all of them or none."""

import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar
from uuid import UUID

import typer

from ticketing.cli.database import reachable
from ticketing.cli.options import DataDir, load
from ticketing.errors import Busy, EventNotFound, StartupError
from ticketing.ops import logs
from ticketing.ops.leaving import held
from ticketing.ops.progress import Tell, progress

if TYPE_CHECKING:
    from ticketing.cli.rows import Column, Row
    from ticketing.identity.repositories.customers import Imported

Pool: TypeAlias = Any
"""An engine of SQLAlchemy, which this layer does not know."""
T = TypeVar("T")

SHOWN: Final = 100
"""How many wrong rows are shown."""
NUMBERS: Final = ("quantity", "ticketTypeId")
"""Columns of bookings that are whole numbers."""
STREAM: Final = Path("-")
"""Stands for standard input."""
MOST: Final = 2**53 - 1
"""The highest id, as in the API."""
WHOLE: Final = re.compile(r"-?[0-9]{1,15}", re.ASCII)
PRICE: Final = "ticketTypes.0.price"
"""The path of the price of an event that has one ticket type."""
AMOUNTS: Final = {
    "dot": re.compile(r"([0-9]{1,13})(?:\.([0-9]+))?", re.ASCII),
    "comma": re.compile(r"([0-9]{1,13})(?:,([0-9]+))?", re.ASCII),
}
"""Amounts, without separators of thousands, because they could be read in two ways."""

imports = typer.Typer(
    help="Import events, customers or bookings from a CSV or JSON file, all of them or none.",
    no_args_is_help=True,
)

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A CSV or JSON file in UTF-8; - is standard input.")
]
Organiser = Annotated[
    str, typer.Option(metavar="NAME", help="The username of the organiser to whom they belong.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done, and change nothing.")
]
Form = Annotated[
    Literal["csv", "json"] | None,
    typer.Option("--format", help="Default: JSON if the file begins with [ or {, else CSV."),
]
Ignore = Annotated[
    bool, typer.Option("--ignore-columns", help="Leave out columns of a CSV that are unknown.")
]


class Given(NamedTuple):
    """What a command was given."""

    file: Path
    dry_run: bool
    form: str | None
    ignores: bool
    data_dir: Path | None


@imports.command()
def customers(  # noqa: PLR0913 - the options
    file: File,
    *,
    organiser: Organiser,
    dry_run: DryRun = False,
    form: Form = None,
    ignore_columns: Ignore = False,
    data_dir: DataDir = None,
) -> None:
    """Import customers of an organiser.

    The columns are externalId, name and email. A customer with a known externalId gets the name and
    the address that are given, so importing a file again changes nothing.
    """
    # Imported here, so that `serve` starts sooner and uses less memory.
    with held():
        from ticketing.cli.rows import Column, require_different, validated  # noqa: PLC0415
        from ticketing.db.facts import COMMAND_LINE  # noqa: PLC0415
        from ticketing.identity.fields import CustomerIn  # noqa: PLC0415
        from ticketing.identity.repositories.customers import (  # noqa: PLC0415
            Asked,
            CustomerRepository,
        )

    given = Given(file, dry_run, form, ignore_columns, data_dir)
    columns = {name: Column(name) for name in ("externalId", "name", "email")}

    def check(rows: "Sequence[Row]") -> Sequence[CustomerIn]:
        kept = validated(rows, CustomerIn, lambda body: body)
        require_different(kept, lambda body: body.external_id, "externalId")
        return [made for _, made in kept]

    async def work(pool: Pool, bodies: Sequence[CustomerIn], tell: Tell) -> "Imported":
        owner = await _owner(pool, organiser)
        asked = [
            Asked(owner, each.external_id, each.name, each.email, COMMAND_LINE) for each in bodies
        ]
        return await CustomerRepository(pool).import_all(asked, tell, keep=not dry_run)

    done = _run(given, columns, lambda _: None, check, work)
    said = f"{done.new:,} new, {done.changed:,} changed, {done.unchanged:,} as before"
    typer.echo(f"{_begin(given)} {sum(done):,} customers: {said}.")


@imports.command()
def events(  # noqa: PLR0913 - the options
    file: File,
    *,
    organiser: Organiser,
    decimal: Annotated[
        Literal["dot", "comma"], typer.Option(help="What separates decimals in the column price.")
    ] = "dot",
    dry_run: DryRun = False,
    form: Form = None,
    ignore_columns: Ignore = False,
    data_dir: DataDir = None,
) -> None:
    """Import events of an organiser.

    JSON has the bodies of POST /api/events in an array. A CSV has their fields in columns, such as
    venue.name, and price and currency for one ticket type. An event that the organiser has already,
    with the same name and start, is left as it is.
    """
    # Imported here for the same reason.
    with held():
        from ticketing.cli.rows import require_different, validated  # noqa: PLC0415
        from ticketing.sale.details import Details, revised  # noqa: PLC0415
        from ticketing.sale.inventory.terms import EventStatus  # noqa: PLC0415
        from ticketing.sale.repositories.event_imports import (  # noqa: PLC0415
            EventImportRepository,
            NewEvent,
        )
        from ticketing.sale.routers.events import CreateEvent  # noqa: PLC0415

    given = Given(file, dry_run, form, ignore_columns, data_dir)

    def new(body: CreateEvent) -> NewEvent:
        details = revised(Details(body.name), body.changes())
        return NewEvent(details, body.capacity, EventStatus(body.status), body.definitions())

    def check(rows: "Sequence[Row]") -> Sequence[NewEvent]:
        kept = validated(rows, CreateEvent, new)
        require_different(kept, lambda made: made.key, "name")
        return [made for _, made in kept]

    async def work(pool: Pool, found: Sequence[NewEvent], tell: Tell) -> tuple[int, int]:
        owner = await _owner(pool, organiser)
        into = EventImportRepository(pool)
        return len(found), await into.import_all(owner, found, tell, keep=not dry_run)

    columns = _event_columns(decimal)
    every, made = _run(given, columns, _one_type, check, work)
    typer.echo(f"{_begin(given)} {every:,} events: {made:,} new, {every - made:,} as before.")


@imports.command()
def bookings(  # noqa: PLR0913 - the options
    file: File,
    *,
    event: Annotated[int, typer.Option(metavar="ID", help="The id of the event.", min=1, max=MOST)],
    dry_run: DryRun = False,
    form: Form = None,
    ignore_columns: Ignore = False,
    data_dir: DataDir = None,
) -> None:
    """Import bookings of an event, for customers of its owner.

    The columns are externalId, name and email, as for customers, ticketType or ticketTypeId, and
    quantity. A row whose customer has booked before is left as it is, and so is a row of
    attendees.csv. All others are booked as by the event's team. If places are missing, nothing is
    imported.
    """
    # Imported here for the same reason.
    with held():
        from ticketing.cli.rows import (  # noqa: PLC0415
            Column,
            Kept,
            Wrong,
            WrongFile,
            require_different,
            validated,
        )
        from ticketing.sale.repositories.booking_imports import (  # noqa: PLC0415
            BookingImportRepository,
            NewBooking,
            NotImportedError,
        )
        from ticketing.sale.routers.import_fields import ImportedBooking  # noqa: PLC0415

    given = Given(file, dry_run, form, ignore_columns, data_dir)
    names = [each.alias or name for name, each in ImportedBooking.model_fields.items()]
    columns = {name: Column(name, _whole if name in NUMBERS else str) for name in names}

    def check(rows: "Sequence[Row]") -> Sequence[Kept[NewBooking]]:
        kept = validated(rows, ImportedBooking, ImportedBooking.new)
        new = [each for each in kept if each.made.ticket_id is None]
        require_different(new, lambda made: made.external_id, "externalId")
        return kept

    async def work(pool: Pool, kept: Sequence[Kept[NewBooking]], tell: Tell) -> tuple[int, int]:
        rows = [made for _, made in kept]
        into = BookingImportRepository(pool)
        try:
            return len(rows), await into.import_all(event, rows, tell, keep=not dry_run)
        except NotImportedError as error:
            raise WrongFile(
                [
                    Wrong(0, "", why) if place is None else kept[place].row.wrong(field, why)
                    for place, field, why in error.faults
                ]
            ) from None
        except EventNotFound:
            raise StartupError(f"there is no event {event}") from None

    every, made = _run(given, columns, lambda _: None, check, work)
    typer.echo(f"{_begin(given)} {every:,} bookings: {made:,} new, {every - made:,} as before.")


def _run(
    given: Given,
    columns: "Mapping[str, Column]",
    complete: Callable[[dict[str, Any]], None],
    check: "Callable[[Sequence[Row]], Sequence[Any]]",
    work: Callable[[Pool, Any, Tell], Awaitable[T]],
) -> T:
    """Read and check the file, and run `work` with what was read."""
    with held():
        from ticketing.cli.rows import WrongFile, read  # noqa: PLC0415
        from ticketing.db import engine, schema  # noqa: PLC0415

    settings = load(given.data_dir)
    logs.configure(settings)
    data = _content(given.file)
    is_json = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"[", b"{"}
    if given.form is not None:
        is_json = given.form == "json"
    try:
        rows = read(data, columns, complete, is_json=is_json, ignores=given.ignores)
        bodies = check(rows)
        with (
            reachable(settings) as url,
            schema.naming_the_database(url),
            progress(f"Importing {_named(given.file)}") as tell,
        ):
            return engine.run(url, lambda pool: _unless_busy(work(pool, bodies, tell)))
    except WrongFile as error:
        for each in error.wrong[:SHOWN]:
            typer.echo(str(each), err=True)
        more = len(error.wrong) - SHOWN
        also = f", {more:,} of them not shown" if more > 0 else ""
        faults = "1 fault" if len(error.wrong) == 1 else f"{len(error.wrong):,} faults{also}"
        raise StartupError(f"{_named(given.file)} has {faults}: nothing was imported") from None


async def _unless_busy(work: Awaitable[T]) -> T:
    try:
        return await work
    except Busy as error:
        # Before it counts as a failure of the database.
        raise StartupError(
            "nothing was imported, because others changed the same event or customers: try again"
        ) from error


async def _owner(pool: Pool, organiser: str) -> UUID:
    with held():
        from ticketing.identity.callers import AccessList  # noqa: PLC0415
        from ticketing.identity.repositories.users import UserRepository  # noqa: PLC0415

    users = UserRepository(pool, AccessList())
    user = await users.find_by_name(organiser) if organiser.isascii() else None
    if user is None:
        raise StartupError(f"there is no user {organiser!r}")
    return user.id


def _begin(given: Given) -> str:
    return "Would import" if given.dry_run else "Imported"


def _named(file: Path) -> str:
    return "standard input" if file == STREAM else str(file)


def _content(file: Path) -> bytes:
    if file == STREAM:
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"{file} can't be read: {error.strerror}") from error


def _event_columns(decimal: str) -> "dict[str, Column]":
    with held():
        from ticketing.cli.rows import Column  # noqa: PLC0415

    texts = (
        *("name", "description", "venue.name", "venue.address", "url", "timezone", "startsAt"),
        *("endsAt", "salesOpenAt", "salesCloseAt", "visibility", "status"),
    )
    numbers = ("capacity", "maxBookingsPerPerson", "maxTicketsPerPerson", "holdMinutes")
    return {
        **{name: Column(name) for name in texts},
        **{name: Column(name, _whole) for name in numbers},
        **{name: Column(name, _degrees) for name in ("venue.latitude", "venue.longitude")},
        "price": Column(f"{PRICE}.amount", lambda cell: _amount(cell, decimal)),
        "currency": Column(f"{PRICE}.currency"),
    }


def _whole(cell: str) -> int:
    if not WHOLE.fullmatch(cell):
        raise ValueError("write a whole number in digits")
    return int(cell)


def _degrees(cell: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]+)?", cell, re.ASCII):
        raise ValueError("write degrees as 52.52")
    return float(cell)


def _amount(cell: str, decimal: str) -> tuple[str, str]:
    """Return the digits before and after the decimal separator."""
    found = AMOUNTS[decimal].fullmatch(cell)
    if found is None:
        shown, other = ("1234.50", "comma") if decimal == "dot" else ("1234,50", "dot")
        raise ValueError(
            f"write an amount as {shown}, without separators of thousands, or say --decimal {other}"
        )
    return found[1], found[2] or ""


def _one_type(values: dict[str, Any]) -> None:
    """Make one ticket type of the price and the currency of a row. Raises Misread."""
    with held():
        from ticketing.cli.rows import Misread  # noqa: PLC0415
        from ticketing.sale.definitions import FIRST_TYPE  # noqa: PLC0415
        from ticketing.sale.money import EXPONENTS  # noqa: PLC0415

    amount = values.pop(f"{PRICE}.amount", None)
    currency = values.pop(f"{PRICE}.currency", None)
    if amount is None:
        return
    whole, rest = amount
    # An unknown currency is refused by the same model as in the API.
    digits = EXPONENTS.get(currency, len(rest))
    if len(rest) > digits:
        raise Misread("price", f"{currency} has {digits} decimals")
    price = {"amount": int(whole + rest.ljust(digits, "0"))}
    if currency is not None:
        price["currency"] = currency
    elif rest:
        raise Misread("currency", "a price with decimals needs a currency")
    values["ticketTypes"] = [{"name": FIRST_TYPE, "price": price}]
