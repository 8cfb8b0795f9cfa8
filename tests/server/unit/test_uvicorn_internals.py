"""Internals of uvicorn that the server uses exist, and are named in one place."""

import uvicorn
from uvicorn.config import Config

from ticketing.server import uvicorn_internals as internals
from ticketing.server.protocol import BoundedProtocol


def named_by(kind: type) -> set[str]:
    """Return every name that the class has, or that its methods use."""
    return set(dir(kind)).union(
        *(each.__code__.co_names for each in vars(kind).values() if hasattr(each, "__code__"))
    )


def test_the_installed_version_was_tested() -> None:
    assert uvicorn.__version__.startswith(f"{internals.TESTED}.")


def test_the_used_internals_exist() -> None:
    assert set(internals.OF_PROTOCOL) <= named_by(internals.HttpToolsProtocol)
    assert set(internals.OF_CYCLE) <= named_by(internals.RequestResponseCycle)
    assert set(internals.OF_FLOW) <= named_by(internals.FlowControl)
    assert set(internals.OF_STATE) <= set(dir(internals.ServerState()))
    assert set(internals.OF_SERVER) <= named_by(uvicorn.Server)


async def test_all_names_that_the_protocol_uses_of_its_base_are_listed() -> None:
    base = internals.HttpToolsProtocol(Config(lambda: None), internals.ServerState(), {})
    inherited = {name for name in dir(base) if not name.startswith("__")}
    own = {
        name
        for name in vars(BoundedProtocol)
        if name not in inherited and name not in internals.OF_PROTOCOL
    }
    used = {
        name
        for function in vars(BoundedProtocol).values()
        if hasattr(function, "__code__")
        for name in function.__code__.co_names
    }
    named = {*internals.OF_PROTOCOL, *internals.OF_CYCLE, *internals.OF_FLOW, *internals.OF_STATE}
    assert (used & inherited) - own - named == set()
