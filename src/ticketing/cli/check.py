"""`ticketing check`."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import typer

from ticketing.cli.database import reachable
from ticketing.cli.options import DataDir, load
from ticketing.database_address import Address
from ticketing.db import revision, state
from ticketing.settings import Settings

OLDEST: Final = 15
"""The oldest major version of PostgreSQL that is supported."""
AHEAD: Final = 10.0
"""Seconds by which two clocks may differ."""


class Line(NamedTuple):
    """What was found about one thing, and why a promise can't be kept, if so."""

    name: str
    found: str
    wrong: str = ""


def check(*, data_dir: DataDir = None) -> None:
    """Show what the service sees of its database, and what is wrong with it.

    Nothing is changed, and the service may be running. The exit status is 1 if the service could
    not keep its promises on this database.
    """
    settings = load(data_dir)
    if settings.database_url is not None:
        lines = list(_lines(settings, settings.database_url.get_secret_value()))
    else:
        with reachable(settings) as url:
            lines = list(_lines(settings, url))
    for line in lines:
        typer.echo(f"{line.name:<12} {line.found}")
        if line.wrong:
            typer.echo(f"{'':<12} WRONG: {line.wrong}")
    if any(line.wrong for line in lines):
        raise typer.Exit(1)


def _lines(settings: Settings, url: str) -> Iterator[Line]:
    hosts = state.hosts(url)
    yield Line("database", str(Address.parse(url)))
    for host, role in hosts.items():
        yield Line("host", f"{host}: {role}")
    found = state.read(url, settings.pooler)
    yield Line(
        "PostgreSQL",
        found.version,
        f"{OLDEST} is the oldest that is supported"
        if int(found.version.partition(".")[0]) < OLDEST
        else "",
    )
    yield Line(
        "writes",
        "accepted" if found.accepts_writes else "refused",
        "" if found.accepts_writes else "the service needs the primary",
    )
    yield Line(
        "commits",
        "survive a crash" if found.keeps_commits else "can be lost in a crash",
        "" if found.keeps_commits else "set synchronous_commit, fsync and full_page_writes to on",
    )
    yield _standbys(found, len(hosts))
    yield Line(
        "encoding",
        found.encoding,
        "" if found.encoding == revision.UTF8 else "create the database WITH ENCODING 'UTF8'",
    )
    yield Line("pooler", settings.pooler, f"run this: {found.lacking}" if found.lacking else "")
    yield _connections(found, settings)
    yield Line(
        "clock",
        f"{found.clock:+.3f} s from this machine's",
        "this machine's tokens end too early or too late" if abs(found.clock) > AHEAD else "",
    )
    yield _migrations(found)


def _standbys(found: state.Database, hosts: int) -> Line:
    if found.synchronous:
        return Line("standbys", f"{found.standbys}; commits wait for: {found.synchronous}")
    if found.standbys == 0 and hosts == 1:
        return Line("standbys", "none")
    said = f"{found.standbys}; commits wait for none"
    if hosts == 1:
        return Line("standbys", f"{said}, so none of them may take over without a loss")
    return Line("standbys", said, "a failover to another host can lose acknowledged bookings")


def _connections(found: state.Database, settings: Settings) -> Line:
    said = f"{settings.connections} needed, {found.room} allowed, {found.used} in use now"
    if settings.pooler != "none":
        return Line("connections", f"{said}; the pooler has its own limits")
    is_short = settings.connections > found.room
    wrong = "lower TICKETING_WORKERS or TICKETING_POOL_SIZE, or raise max_connections"
    return Line("connections", said, wrong if is_short else "")


def _migrations(found: state.Database) -> Line:
    if found.revision is None:
        return Line("migrations", "none", "run `ticketing migrate`")
    newest = revision.known()[-1]
    if found.revision in revision.known()[:-1]:
        return Line("migrations", f"{found.revision}, not {newest}", "run `ticketing migrate`")
    return Line("migrations", found.revision)
