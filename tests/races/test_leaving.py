"""A signal that arrives while modules in C are loaded, or in the midst of a message to a driver."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.databases import execute, with_database
from tests.serving import PATIENCE, TICKETING, until

LOCK = 0x7469636B
"""The advisory lock of a migration."""

# The signal arrives as the import begins. At the end it says which modules are loaded.
WHILE_IMPORTING = """
import atexit, os, signal, sys

def interrupt(event, arguments):
    if event == "import" and arguments[0] == wanted:
        os.kill(os.getpid(), signal.SIGTERM)

def say():
    module = sys.modules.get(wanted)
    print(module is not None and not module.__spec__._initializing)

wanted = sys.argv[1]
sys.addaudithook(interrupt)
atexit.register(say)
sys.argv = ["ticketing", *sys.argv[2:]]
from ticketing.__main__ import main
main()
"""

# The driver calls the decoder between two fields of a message.
WHILE_DECODING = """
import os, signal, sys
from ticketing.ops.leaving import cancellable, leave, run
import asyncpg

def decode(text):
    os.kill(os.getpid(), signal.SIGTERM)
    print("decoded")
    return text

async def work():
    connection = await asyncpg.connect(sys.argv[1])
    try:
        await connection.set_type_codec("int4", schema="pg_catalog", encoder=str, decoder=decode)
        with cancellable():
            await connection.fetchrow("SELECT 1 AS one, 'two' AS two")
            await connection.execute("SELECT pg_sleep(600)")
    finally:
        await connection.close()
        print("closed")

signal.signal(signal.SIGTERM, leave)
run(work())
print("not reached")
"""

# What follows must not be cancelled, because it closes connections.
AT_THE_END = """
import asyncio, os, signal
from ticketing.ops.leaving import cancellable, leave, run

async def work():
    with cancellable():
        os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.001)
    print("worked")

signal.signal(signal.SIGTERM, leave)
run(work())
print("not reached")
"""

BEFORE_THE_LOOP = """
import asyncio, os, signal
from ticketing.ops.leaving import cancellable, held, leave, run

async def work():
    print("began")
    try:
        with cancellable():
            await asyncio.sleep(600)
    finally:
        print("cancelled")

signal.signal(signal.SIGTERM, leave)
with held():
    os.kill(os.getpid(), signal.SIGTERM)
    print("held")
    run(work())
    print("not reached")
"""


@pytest.fixture
def empty_url(server_url: str) -> Iterator[str]:
    """The address of a database that was never migrated."""
    name = "interrupted"
    asyncio.run(execute(server_url, f"CREATE DATABASE {name}"))
    yield with_database(server_url, name)
    asyncio.run(execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


def leaving(script: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    "module",
    ["sqlalchemy.engine._row_cy", "sqlalchemy.dialects.postgresql.asyncpg", "alembic.command"],
)
def test_a_module_is_loaded_completely_before_a_signal_ends_the_command(
    empty_url: str, module: str
) -> None:
    ended = leaving(WHILE_IMPORTING, module, "migrate", TICKETING_DATABASE_URL=empty_url)
    assert ended == (128 + signal.SIGTERM, "True\n", "")


def test_a_message_is_read_completely_before_a_signal_ends_the_command(server_url: str) -> None:
    status, printed, complained = leaving(WHILE_DECODING, server_url)
    assert (status, complained) == (128 + signal.SIGTERM, "")
    assert printed == "decoded\nclosed\n"


@pytest.mark.parametrize(
    ("script", "printed"), [(AT_THE_END, "worked\n"), (BEFORE_THE_LOOP, "held\nbegan\ncancelled\n")]
)
def test_a_signal_is_not_lost_before_or_after_a_loop(script: str, printed: str) -> None:
    assert leaving(script) == (128 + signal.SIGTERM, printed, "")


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_migration_that_waits_is_ended_by_a_signal(
    tmp_path: Path, empty_url: str, number: signal.Signals
) -> None:
    holder = await asyncpg.connect(empty_url)
    await holder.execute(f"SELECT pg_advisory_lock({LOCK})")
    try:
        with subprocess.Popen(  # noqa: ASYNC220 - it is waited for below
            [*TICKETING, "migrate"],
            cwd=tmp_path,
            env={**os.environ, "TICKETING_DATABASE_URL": empty_url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            # It asks for the lock again and again.
            waiting = """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()
                    AND backend_type = 'client backend'
            """

            async def waits() -> bool:
                return bool(await holder.fetchval(waiting))

            await until(waits)
            process.send_signal(number)
            printed, complained = process.communicate(timeout=PATIENCE)
        assert (process.returncode, printed, complained) == (128 + number, "", "")
        assert not await holder.fetchval("SELECT to_regclass('alembic_version')")
    finally:
        await holder.close()
