"""Calls of webhooks reach public addresses and those that are allowed, whatever a name leads to."""

import asyncio
import socket
from ipaddress import IPv4Network, IPv6Network
from threading import Event, Semaphore
from typing import Any

import pytest

from tests.feed.receiving import LOOPBACK, Received, receiving
from ticketing.feed.calling import Called, calling, is_allowed

REFUSED = [
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
    *("169.254.169.254", "0.0.0.0", "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1"),  # noqa: S104
    *("::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "ff02::1", "2001:db8::1"),
    # IPv6 addresses that lead to IPv4 ones.
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::"),
]
PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::5db8:d70e"]


@pytest.mark.parametrize("address", REFUSED)
def test_no_address_of_a_private_network_is_called(address: str) -> None:
    assert not is_allowed(address, ())


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_called(address: str) -> None:
    assert is_allowed(address, ())


def test_networks_that_a_setting_allows_are_called_and_no_others() -> None:
    networks = (IPv4Network("10.1.0.0/16"), IPv6Network("fd00::/8"))
    for address in ("10.1.2.3", "fd00::1", "::ffff:10.1.2.3"):
        assert is_allowed(address, networks)
    for address in ("10.2.0.1", "fc00::1", "::ffff:10.2.0.1", "127.0.0.1"):
        assert not is_allowed(address, networks)


async def called(url: str, networks: Any = ()) -> Called:  # noqa: ANN401 - as the setting has it
    async with calling(networks) as caller:
        return await caller.call(url, b"{}", {})


async def test_private_addresses_are_refused_by_number_and_by_name() -> None:
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1"):  # noqa: S104
            found = await called(f"http://{host}:{port}")
            assert found.status is None
            assert found.error is not None
            assert "not public" in found.error or "can't be resolved" in found.error
        assert receiver.received == []
        assert (await called(receiver.url, LOOPBACK)).status == 204


def _resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Let each look-up of a name return the next of these lists of addresses."""
    left = iter(answers)

    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0)) for each in next(left)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_a_name_that_resolves_differently_a_second_time_leads_nowhere_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Only the address that was checked is called. The receiver listens at 127.0.0.1 alone.
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        allowed = (IPv4Network("127.0.0.2/32"),)
        _resolving(monkeypatch, ["127.0.0.2"], ["127.0.0.1"])
        found = await called(f"http://rebinding.example:{port}", allowed)
        assert (found.status, receiver.received) == (None, [])


async def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        _resolving(monkeypatch, ["127.0.0.1", "10.0.0.1"])
        found = await called(f"http://mixed.example:{port}", LOOPBACK)
        assert found.error is not None
        assert found.error.startswith("the address is not public")
        assert "TICKETING_WEBHOOK_NETWORKS" in found.error
        assert receiver.received == []


async def test_names_that_nobody_resolves_keep_no_thread_that_others_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_over, looked_up = Event(), Semaphore(0)

    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        looked_up.release()
        is_over.wait()
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    calls = [asyncio.create_task(called(f"http://slow{n}.example")) for n in range(40)]
    try:
        # More than the threads that all share on most machines.
        async with asyncio.timeout(10):
            for _ in range(32):
                assert await asyncio.to_thread(looked_up.acquire, timeout=5)
    finally:
        is_over.set()
        results = await asyncio.gather(*calls)
    assert {each.status for each in results} == {None}


async def test_what_a_receiver_does_wrong_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def leave(_: Received) -> int:
        raise ConnectionResetError

    hangs = asyncio.Event()

    async def hang(_: Received) -> int:
        await hangs.wait()
        return 200

    async with receiving(leave) as leaving, receiving(hang) as hanging:
        found = await called(leaving.url, LOOPBACK)
        assert found.error == "the connection was closed without a response"
        monkeypatch.setattr("ticketing.feed.calling.PATIENCE", 0.05)
        found = await called(hanging.url, LOOPBACK)
        assert found.error == "no response within 0 seconds"
        hangs.set()
    found = await called(leaving.url, LOOPBACK)
    assert found.error is not None
    assert found.error.startswith("no connection")
