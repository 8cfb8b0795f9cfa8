"""`ticketing audit`: recounts bookings."""

from typing import Annotated

import orjson
import typer

from ticketing.cli.database import reachable
from ticketing.cli.options import DataDir, load
from ticketing.ops import logs
from ticketing.ops.leaving import held
from ticketing.ops.progress import progress


def audit(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each difference as a line of JSON.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Recount every event's bookings and entries, and print differences.

    Nothing is changed, and the service may be running. The exit status is 1 if anything differs.
    """
    # Imported here, so that `serve` starts sooner and uses less memory.
    with held():
        from ticketing.db import engine, schema  # noqa: PLC0415
        from ticketing.door.repositories.recount import recount  # noqa: PLC0415
        from ticketing.sale.repositories.recount import RecountRepository  # noqa: PLC0415

    settings = load(data_dir)
    logs.configure(settings)
    with (
        reachable(settings) as url,
        schema.naming_the_database(url),
        progress("Recounting") as tell,
    ):
        pooler = settings.pooler
        found = engine.run(
            url, lambda pool: RecountRepository(pool, [recount]).recount(tell), pooler=pooler
        )
    documents = [each.document() for each in found.differences]
    if as_json:
        for document in documents:
            typer.echo(orjson.dumps(document, default=str))
    else:
        for document in documents:
            rest = (
                f"{k}={_listed(v)}" for k, v in document.items() if k not in {"kind", "eventId"}
            )
            typer.echo(f"event {document['eventId']:<8} {document['kind']:<20} {' '.join(rest)}")
        typer.echo(
            f"Events: {found.events:,}, bookings: {found.bookings:,},"
            f" differences: {len(documents):,}."
        )
    if documents:
        raise typer.Exit(1)


def _listed(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
