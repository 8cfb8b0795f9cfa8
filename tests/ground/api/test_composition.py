"""Everything that a part composes is closed, and its queues are in the metrics."""

import asyncio
import gc
import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

import ticketing
from ticketing.app import create_app
from ticketing.db.combiner import QUEUE, Combiner
from ticketing.settings import Settings


def closer(kind: type) -> str:
    return "dispose" if issubclass(kind, AsyncEngine) else "close"


def closable() -> Iterator[type]:
    """Return every class of the service that can be closed, and the pools of connections."""
    yield AsyncEngine
    for module in pkgutil.walk_packages(ticketing.__path__, "ticketing."):
        if module.name != "ticketing.__main__":
            for kind in vars(import_module(module.name)).values():
                is_ours = inspect.isclass(kind) and kind.__module__ == module.name
                if is_ours and inspect.iscoroutinefunction(getattr(kind, "close", None)):
                    yield kind


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"webhook_delivery": "workers"})


async def test_everything_that_a_part_opens_is_closed_and_every_loop_is_stopped(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    closed: list[object] = []
    for kind in set(closable()):
        begin, close = getattr(kind, "__init__"), getattr(kind, closer(kind))  # noqa: B009

        def note(self: object, *given: object, _begin: object = begin, **named: object) -> None:
            opened.append(self)
            _begin(self, *given, **named)  # type: ignore[operator]

        def end(self: object, _close: object = close) -> object:
            closed.append(self)
            return _close(self)  # type: ignore[operator]

        monkeypatch.setattr(kind, "__init__", note)
        monkeypatch.setattr(kind, closer(kind), end)
    tasks = asyncio.all_tasks()
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        assert len(asyncio.all_tasks()) > len(tasks)
    left = [each for each in opened if not any(each is other for other in closed)]
    assert [type(each).__name__ for each in left] == []
    assert {type(each).__name__ for each in opened} >= {
        *("AsyncEngine", "Combiner", "Held", "Passwords", "Pools"),
        *("BookingRepository", "EventRepository", "KeyRepository", "TeamRepository"),
    }
    assert asyncio.all_tasks() == tasks


async def test_every_queue_is_sampled_for_the_metrics(settings: Settings) -> None:
    gc.collect()
    others = {id(each) for each in gc.get_objects() if isinstance(each, Combiner)}
    app = create_app(settings)
    queues = {
        each._name
        for each in gc.get_objects()
        if isinstance(each, Combiner) and id(each) not in others
    }
    assert queues == {
        *("bookings", "bookings by id", "check-ins", "customers", "events", "keys", "roles")
    }
    for name in queues:
        QUEUE.labels(name).set(-1)
    async with app.router.lifespan_context(app):
        assert {name: QUEUE.labels(name)._value.get() for name in queues} == dict.fromkeys(
            queues, 0
        )
