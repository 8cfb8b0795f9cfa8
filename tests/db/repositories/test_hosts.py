"""Several hosts: the choice of one, the timeout of each, and the error if none works."""

import asyncio
import socket
from collections.abc import Iterator

import asyncpg
import pytest
from sqlalchemy import make_url

from ticketing.database_address import Address
from ticketing.db import hosts, revision
from ticketing.db.engine import connect
from ticketing.db.hosts import NoHostError, Server
from ticketing.db.schema import check, is_usable
from ticketing.db.statements import driver
from ticketing.errors import DatabaseUnavailable, StartupError


class Deaf:
    """A host that accepts connections and sends nothing, like a frozen server."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        listener.settimeout(0)
        self.spec = f"127.0.0.1:{listener.getsockname()[1]}"

    def asked(self) -> int:
        """How many connections came since the last time."""
        count = 0
        while True:
            try:
                self._listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


@pytest.fixture
def deaf() -> Iterator[Deaf]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Deaf(listener)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "HOST_TIMEOUT", 1.0)


def behind(*specs: str, url: str, more: str = "") -> str:
    """Return the address of the test's database as the last of several hosts."""
    found = make_url(url)
    names = ",".join([*specs, str(found.query["host"])])
    return f"postgresql://postgres@/{found.database}?host={names}{more}"


async def is_reached(url: str) -> bool:
    link = await Server(Address.parse(url)).connect()
    await link.close()
    return True


async def test_a_host_that_is_frozen_is_passed_over_and_tried_last_from_then_on(
    deaf: Deaf, database_url: str
) -> None:
    engine = connect(behind(deaf.spec, url=database_url), pool_size=3)
    async with driver(engine) as first:
        assert deaf.asked() == 1
        async with driver(engine) as second, driver(engine) as third:
            assert {await link.fetchval("SELECT 1") for link in (first, second, third)} == {1}
    assert deaf.asked() == 0
    await engine.dispose()


async def test_a_cancelled_connect_to_a_frozen_host_makes_the_next_host_the_first(
    deaf: Deaf, database_url: str
) -> None:
    engine = connect(behind(deaf.spec, url=database_url), pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        await is_usable(engine, 0.1)
    assert await is_usable(engine, 5)
    assert deaf.asked() == 1
    await engine.dispose()


async def test_a_start_passes_over_a_frozen_host(deaf: Deaf, database_url: str) -> None:
    url = behind(deaf.spec, url=database_url)
    assert await asyncio.to_thread(revision.is_newest, url)
    await asyncio.to_thread(check, url)
    assert deaf.asked() >= 2


@pytest.mark.usefixtures("quick")
async def test_the_error_gives_a_reason_for_each_host(deaf: Deaf, database_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refused = f"127.0.0.1:{closed.getsockname()[1]}"
    url = behind(deaf.spec, refused, url=database_url, more="&target_session_attrs=standby")
    with pytest.raises(NoHostError) as error:
        await Server(Address.parse(url)).connect()
    silent, away, other = str(error.value).split("; ")
    assert silent == f"{deaf.spec} does not respond in time"
    assert away.startswith(f"{refused} can't be used (")
    assert other.endswith(" is not standby")
    with pytest.raises(StartupError, match=r"can't be reached: .* in time; .*; .* is not standby$"):
        await asyncio.to_thread(check, url)


async def test_all_hosts_together_have_a_timeout(
    deaf: Deaf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "CONNECT_TIMEOUT", 0.2)
    others = ",".join(f"127.0.0.{number}:{deaf.spec.split(':')[1]}" for number in range(2, 9))
    with pytest.raises(NoHostError):
        await Server(Address.parse(f"postgresql://ada@{deaf.spec},{others}/db")).connect()
    assert deaf.asked() == 1


async def test_the_address_can_set_the_timeout_of_each_host(
    deaf: Deaf, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "HOST_TIMEOUT", 0.01)
    url = behind(deaf.spec, url=database_url, more="&connect_timeout=30")
    server = Server(Address.parse(url))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(server.connect(), 0.3)
    link = await server.connect()
    await link.close()


async def test_a_missing_database_at_one_host_ends_the_search(
    deaf: Deaf, database_url: str
) -> None:
    found = make_url(database_url)
    url = f"postgresql://postgres@/nowhere?host={found.query['host']},{deaf.spec}"
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await Server(Address.parse(url)).connect()
    assert deaf.asked() == 0


@pytest.mark.parametrize("role", ["primary", "read-write", "any", "prefer-standby"])
async def test_a_primary_is_used_if_any_host_or_preferably_a_standby_is_wanted(
    database_url: str, role: str
) -> None:
    url = behind("/nowhere", url=database_url, more=f"&target_session_attrs={role}")
    assert await is_reached(url)


@pytest.mark.parametrize("role", ["standby", "read-only"])
async def test_a_primary_is_not_used_if_a_standby_is_wanted(database_url: str, role: str) -> None:
    url = behind("/nowhere", url=database_url, more=f"&target_session_attrs={role}")
    with pytest.raises(NoHostError, match=f"is not {role}$"):
        await Server(Address.parse(url)).connect()


async def test_the_primary_is_used_unless_the_address_says_otherwise(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def note(*_: object, **given: object) -> None:
        asked.append(given["target_session_attrs"])
        raise OSError

    monkeypatch.setattr(asyncpg, "connect", note)
    for more in ("", "&target_session_attrs=any", "&target_session_attrs=prefer-standby"):
        with pytest.raises(OSError):  # noqa: PT011 - the one above
            await Server(Address.parse(database_url + more)).connect()
    assert asked == ["primary", "any", "standby", "any"]
