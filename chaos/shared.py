"""What replicas share through the database, checked after each failover."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg
from chaos.client import Client, Response
from chaos.history import Operation
from chaos.rig import DATABASE_ERRORS, PASSWORD, Person, Rig

from ticketing.sale.repositories.recount import LOCK

SOON: Final = 5.0
"""Seconds after which a replica must know what another one did."""
DELIVERED: Final = 30.0
"""Seconds in which webhooks must have come: a lease of 15 seconds, and some."""
AUDITED: Final = 20.0
"""Seconds in which an audit must begin and end."""
WRONG_PASSWORDS: Final = 3
"""The limit of the rig for one account."""
SURE: Final = 3
"""Consecutive refusals, each on a new connection, because a replica has several workers."""
NEVER: Final = ("audit.difference", '"status":500')
"""What no replica may log."""
AUDITORS: Final = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
        AND (CAST(classid AS bigint) << 32) | CAST(objid AS bigint) = $1
"""


async def check(rig: Rig, person: Person, event: int, operations: list[Operation]) -> list[str]:
    """Return what replicas do not share; `person` has no booking at `event`.

    `operations` must have reached the receiver of webhooks.
    """
    wrong: list[str] = []
    for found in await asyncio.gather(
        _sessions(rig, person),
        _limits(rig),
        _live(rig, person, event),
        _audits(rig),
        _webhooks(rig, operations),
    ):
        wrong += found
    return wrong


async def _ask(  # noqa: PLR0913 - the parts of a request
    rig: Rig, replica: int, method: str, path: str, *, body: object = None, token: str = ""
) -> Response:
    """Ask one replica, on a new connection."""
    client = Client([rig.services[replica].port], patience=SOON)
    try:
        return await client.request(method, path, body, token=token)
    finally:
        client.close()


async def _within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.1)
    return True


async def _sessions(rig: Rig, person: Person) -> list[str]:
    """Log in at one replica and out at it, and look at the other."""
    credentials = {"username": person.name, "password": PASSWORD}
    token = (await _ask(rig, 0, "POST", "/api/users/login", body=credentials)).body["token"]

    async def statuses() -> set[int]:
        return {
            (await _ask(rig, 1, "GET", "/api/users/me", token=token)).status for _ in range(SURE)
        }

    if (found := await statuses()) != {200}:
        return [f"a session of one replica got {found} at the other"]
    await _ask(rig, 0, "POST", "/api/users/logout", token=token)

    async def is_over() -> bool:
        return await statuses() == {401}

    if not await _within(SOON, is_over):
        return ["a session that ended at one replica lives at the other"]
    return []


async def _limits(rig: Rig) -> list[str]:
    """Guess a password at both replicas by turns."""
    credentials = {"username": f"nobody-{uuid4().hex[:12]}", "password": "wrong horse"}
    found = [
        (await _ask(rig, number % 2, "POST", "/api/users/login", body=credentials)).status
        for number in range(WRONG_PASSWORDS + 1)
    ]
    if found != [401] * WRONG_PASSWORDS + [429]:
        return [f"a limit of {WRONG_PASSWORDS} for both replicas allowed {found}"]
    return []


async def _live(rig: Rig, person: Person, event: int) -> list[str]:
    """Follow an event at one replica, and book at the other."""
    body = {"eventId": event, "userId": person.id}
    asked: Any = {"body": body, "token": person.token}
    await _ask(rig, 0, "POST", "/api/events/cancel", **asked)
    async with _followed(rig, event) as messages:
        before = (await anext(messages))["availableTickets"]
        made = await _ask(rig, 0, "POST", "/api/events/book", **asked)
        try:
            async with asyncio.timeout(SOON):
                async for told in messages:
                    if told["availableTickets"] == before - 1:
                        return []
        except TimeoutError:
            pass
        finally:
            await _ask(rig, 0, "POST", "/api/events/cancel", **asked)
    return [f"a live stream did not show a booking at the other replica ({made.status})"]


@asynccontextmanager
async def _followed(rig: Rig, event: int) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.services[1].port)
    writer.write(f"GET /api/events/{event}/live HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    async def messages() -> AsyncIterator[dict[str, Any]]:
        async for line in reader:
            if line.startswith(b"data:"):
                yield json.loads(line.removeprefix(b"data:"))

    try:
        yield messages()
    finally:
        writer.transport.abort()


async def _audits(rig: Rig) -> list[str]:
    """Wait for an audit, and look for the one process that audits."""
    before = {each: each.stat().st_size for each in rig.consoles}

    async def is_audited() -> bool:
        return any(b"audit.completed" in _from(each, size) for each, size in before.items())

    if not await _within(AUDITED, is_audited):
        return [f"no replica audits: none has in {AUDITED:.0f} s"]
    wrong = [f"the replicas logged {each}" for each in NEVER if each in rig.logs]
    connection: asyncpg.Connection[asyncpg.Record] | None = None
    try:
        connection = await rig.connection()
        if (auditors := await connection.fetchval(AUDITORS, LOCK)) != 1:
            wrong.append(f"{auditors} processes hold the lock of the auditor")
    except DATABASE_ERRORS as error:
        wrong.append(f"the cluster is away again: {error}")
    finally:
        if connection is not None:
            connection.terminate()
    return wrong


def _from(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(size)
        return file.read()


def acknowledged(operations: list[Operation]) -> set[tuple[str, str]]:
    """Return the type and the booking of each event of the feed that responses promise."""
    return {
        (f"booking.{each.answer['became']}", each.answer["id"])
        for each in operations
        if each.verb in {"book", "hold"}
        and each.answer is not None
        and each.answer["status"] < 300  # noqa: PLR2004 - HTTP
        and "id" in each.answer
    }


async def _webhooks(rig: Rig, operations: list[Operation]) -> list[str]:
    """Wait until everything that was acknowledged has come."""
    if rig.receiver is None:
        return []
    told = rig.receiver.told
    wanted = acknowledged(operations)

    async def have_come() -> bool:
        return told.keys() >= wanted

    if await _within(DELIVERED, have_come):
        return []
    lacking = sorted(wanted - told.keys())
    return [f"{len(lacking)} of {len(wanted)} events came to no webhook, as {lacking[0]}"]
