"""Connections have their timeouts, and TLS if the address asks for it."""

import asyncio
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from asyncpg import Record
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import execute
from ticketing.db.engine import connect
from ticketing.db.sessions import IDLE_TIMEOUT, STATEMENT_TIMEOUT
from ticketing.db.statements import Statement, driver
from ticketing.errors import Busy, DatabaseUnavailable

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""PostgreSQL's protocol, section 54.2.11."""


async def shown(engine: AsyncEngine, name: str) -> str:
    async with engine.connect() as connection:
        value: str = await connection.scalar(text(f"SHOW {name}"))
        return value


async def test_the_server_ends_what_takes_too_long_except_a_migration(
    engine: AsyncEngine, database_url: str
) -> None:
    migrating = connect(database_url, pool_size=1, command_timeout=None)
    for name, limit in (
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
    ):
        assert await shown(engine, name) == limit
        assert await shown(migrating, name) == "0"
    await migrating.dispose()


async def test_a_statement_that_takes_too_long_is_aborted(engine: AsyncEngine) -> None:
    async def sleep() -> None:
        async with driver(engine) as connection, connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = '50ms'")
            await Statement("SELECT pg_sleep(60)").fetch(connection)

    with pytest.raises(Busy):
        await sleep()
    assert await shown(engine, "statement_timeout") == STATEMENT_TIMEOUT


async def test_a_statement_that_timed_out_does_not_delay_the_next_user_of_the_pool(
    database_url: str,
) -> None:
    hasty = connect(database_url, pool_size=1, command_timeout=0.2)
    async with driver(hasty) as connection:
        frozen = connection.get_server_pid()

    async def asked() -> list[Record]:
        async with driver(hasty) as connection:
            return await Statement("SELECT 1 AS one").fetch(connection)

    os.kill(frozen, signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseUnavailable):
            await asked()
        ((one,),) = await asked()
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert one == 1
    await hasty.dispose()


async def test_a_transaction_that_idles_loses_its_locks_and_its_connection(
    engine: AsyncEngine,
) -> None:
    async def idle() -> None:
        async with driver(engine) as connection, connection.transaction():
            await connection.execute("LOCK TABLE users")
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            while not connection.is_closed():  # noqa: ASYNC110 - the server ends it
                await asyncio.sleep(0.01)
            await Statement("SELECT 1").fetch(connection)

    with pytest.raises(DatabaseUnavailable):
        await idle()
    assert await shown(engine, "idle_in_transaction_session_timeout") == IDLE_TIMEOUT


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate of `localhost`, with its key in the same folder."""
    made = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", made.with_name("key.pem"), "-out", made),
        ],
        check=True,
        capture_output=True,
    )
    return made


@pytest.fixture
async def behind_tls(database_url: str, certificate: Path) -> AsyncIterator[str]:
    """The address of the test's database over TCP and TLS. The embedded one has neither."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    url = make_url(database_url)
    socket = f"{url.query['host']}/.s.PGSQL.5432"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that refuses the certificate disconnects during the handshake.
        with suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST
            writer.write(b"S")
            await writer.start_tls(context)
            from_server, to_server = await asyncio.open_unix_connection(socket)
            await asyncio.gather(pump(reader, to_server), pump(from_server, writer))
        writer.close()

    server = await asyncio.start_server(serve, "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    yield f"postgresql://postgres@localhost:{port}/{url.database}"
    server.close()
    await server.wait_closed()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_verify_full_accepts_only_the_server_that_the_certificate_names(
    behind_tls: str, certificate: Path
) -> None:
    verified = f"{behind_tls}?sslmode=verify-full&sslrootcert={certificate}"
    engine = connect(verified, pool_size=1)
    async with driver(engine) as connection:
        assert await Statement("SELECT count(*) FROM users").fetch(connection)
    await engine.dispose()
    by_another_name = verified.replace("@localhost:", "@127.0.0.1:")
    by_another_authority = f"{behind_tls}?sslmode=verify-full"
    for url in (by_another_name, by_another_authority):
        engine = connect(url, pool_size=1)
        with pytest.raises(DatabaseUnavailable) as refused:
            async with driver(engine):
                pass
        assert "certificate" in str(refused.value.__cause__).lower()
        await engine.dispose()


async def test_verify_full_refuses_a_server_without_tls() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST
        writer.write(b"N")
        assert await reader.read() == b""  # Nothing is sent unencrypted, least of all a password.
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"postgresql://ada:swordfish@127.0.0.1:{port}/tickets?sslmode=verify-full"
    engine = connect(url, pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        async with driver(engine):
            pass
    await engine.dispose()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER ROLE visitor NOLOGIN",
        "REVOKE CONNECT ON DATABASE {database} FROM PUBLIC",
        "ALTER DATABASE {database} WITH ALLOW_CONNECTIONS false",
        "ALTER DATABASE {database} RENAME TO elsewhere",
    ],
)
async def test_who_may_not_connect_any_more_is_told_that_the_database_is_unavailable(
    server_url: str, change: str
) -> None:
    await execute(server_url, "CREATE DATABASE entered")
    await execute(server_url, "CREATE ROLE visitor LOGIN PASSWORD 'first'")
    url = make_url(server_url).set(username="visitor", password="first", database="entered")
    engine = connect(url.render_as_string(hide_password=False), pool_size=1)
    try:
        assert await shown(engine, "timezone") == "UTC"
        await engine.dispose()
        await execute(server_url, change.format(database="entered"))
        with pytest.raises(DatabaseUnavailable):
            async with driver(engine):
                pass
    finally:
        await engine.dispose()
        for name in ("entered", "elsewhere"):
            await execute(server_url, f"DROP DATABASE IF EXISTS {name}")
        await execute(server_url, "DROP ROLE visitor")
