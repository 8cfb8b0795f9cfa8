"""The service's database role is enough for every route, and can't change the schema."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from fastapi import FastAPI
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.calls import an_admin, call, prepare, scene
from tests.databases import with_database
from tests.people import Visitor
from tests.serving import TICKETING
from ticketing.db.schema import check
from ticketing.embedded.binaries import run_client
from ticketing.errors import StartupError
from ticketing.identity.callers import AccessList
from ticketing.identity.permissions import RULES, Role
from ticketing.identity.repositories.access import AccessRepository

pytestmark = pytest.mark.usefixtures("unmeasured")

SCRIPT = Path(__file__).parents[3] / "src" / "ticketing" / "db" / "service_role.sql"
OWNER = "ticketing_owner"

FORBIDDEN = [
    "CREATE TABLE more (id integer)",
    "CREATE TEMPORARY TABLE more (id integer)",
    "CREATE SCHEMA more",
    "CREATE FUNCTION more() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE events ADD COLUMN more integer",
    "ALTER TABLE events DROP CONSTRAINT ck_events_available",
    "ALTER TABLE audit_records DISABLE TRIGGER append_only",
    "ALTER TABLE bookings DISABLE TRIGGER ALL",
    "DROP TRIGGER append_only ON audit_records",
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "SET session_replication_role = replica",
    "DROP TABLE bookings",
    "DROP INDEX uq_bookings_active",
    "CREATE INDEX ON bookings (status)",
    "TRUNCATE bookings",
    "TRUNCATE audit_records",
    "DELETE FROM audit_records",
    "UPDATE audit_records SET action = 'nothing'",
    "CREATE ROLE more",
    f"SET ROLE {OWNER}",
]


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role).render_as_string(hide_password=False)


def psql(url: str, *arguments: str | Path) -> None:
    """Run the script as a superuser, as an operator does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVICE_PASSWORD", 'it\'s a \\ "secret"')
        run_client("psql", "--quiet", "--no-psqlrc", f"--dbname={url}", *arguments)


@pytest.fixture(params=["before the first migration", "after it"])
def database_url(server_url: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The service's address of a database that another role owns and has migrated."""
    url = with_database(server_url, "of_two_roles")
    psql(server_url, f"--command=CREATE ROLE {OWNER} LOGIN")
    psql(server_url, f"--command=CREATE DATABASE of_two_roles OWNER {OWNER}")
    grant = ("--set=owner=" + OWNER, "--file", SCRIPT)
    if request.param == "after it":
        migrate(url)
    psql(url, *grant)
    psql(url, *grant)  # running it again is safe
    if request.param != "after it":
        migrate(url)
    yield as_role(url, "ticketing_service")
    psql(server_url, "--command=DROP DATABASE of_two_roles WITH (FORCE)")
    psql(server_url, f"--command=DROP ROLE {OWNER}, ticketing_service")


def migrate(url: str) -> None:
    """Run `ticketing migrate`, which must not use the service's own address."""
    environment = {
        "TICKETING_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
        "TICKETING_MIGRATION_DATABASE_URL": as_role(url, OWNER),
    }
    subprocess.run([*TICKETING, "migrate"], env={**os.environ, **environment}, check=True)


async def test_the_services_role_serves_every_route(
    app: FastAPI, visitor: Visitor, engine: AsyncEngine
) -> None:
    admin = await an_admin(app, engine, visitor)
    for action, rule in RULES.items():
        role = Role.OWNER if Role.OWNER in rule.roles else Role.ADMIN
        on = await scene(app, engine, visitor, role, action)
        on = await prepare(action, on, admin)
        answer = await call(action, on, on.caller.headers, visitor)
        assert answer.is_success, f"{action}: {answer.text}"
    known = AccessRepository(engine, AccessList())
    ada = await visitor.register()
    await known.promote(ada.username)
    await known.demote(ada.username)
    await known.clean()


async def test_the_error_of_a_role_without_rights_says_how_to_grant_them(
    server_url: str, database_url: str
) -> None:
    revoke = "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM ticketing_service"
    psql(with_database(server_url, "of_two_roles"), f"--command={revoke}")
    with pytest.raises(StartupError, match=r"permission denied .* \(`ticketing migrate --role-sql"):
        await asyncio.to_thread(check, database_url)


def test_the_script_names_the_password_that_is_missing(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVICE_PASSWORD", raising=False)
    with pytest.raises(StartupError, match="Set the environment variable SERVICE_PASSWORD"):
        run_client("psql", "--quiet", "--no-psqlrc", f"--dbname={server_url}", "--file", SCRIPT)


async def test_the_services_role_can_not_change_the_schema(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT current_user") == "ticketing_service"
        for statement in FORBIDDEN:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
