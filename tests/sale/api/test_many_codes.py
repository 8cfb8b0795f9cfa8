"""Codes made in bulk, listed, exported and deleted."""

import asyncio
import csv
from collections.abc import Sequence
from typing import Any

import pytest
from fastapi import FastAPI

from tests.codes import SOON, Shop
from tests.contract import assert_problem
from tests.people import Person, Visitor
from ticketing.db.pages import Page
from ticketing.errors import DatabaseUnavailable
from ticketing.sale.repositories import codes
from ticketing.sale.repositories.codes import CodeRepository, EventCode
from ticketing.sale.routers.codes import MAX_GIVEN
from ticketing.web.asgi import Message


async def test_many_codes_are_drawn_listed_in_pages_and_exported(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    path = f"/api/events/{shop.event}/codes"
    drawn = {
        "kind": "access",
        "ticketTypes": [shop.types["H1"], shop.types["H2"]],
        "maxUses": 1,
        "draw": {"count": 2500, "prefix": "=VIP-", "length": 8},
    }
    made = await shop.owner.post(path, drawn, key="once")
    assert made.status_code == 201, made.text
    items = made.json()["items"]
    codes = [each["code"] for each in items]
    assert len({*codes}) == 2500
    for code in codes:
        assert code.startswith("=VIP-")
        assert len(code) == 13
        assert not {*code.removeprefix("=VIP-")} & {*"01IO"}
    # The same request again makes no more.
    again = await shop.owner.post(path, drawn, key="once")
    assert again.json() == made.json()
    stopped = await shop.owner.patch(f"{path}/{items[0]['id']}", {"active": False})
    assert stopped.json() == items[0] | {"active": False}

    first = (await shop.owner.get(path, limit=100)).json()
    assert first["items"] == [stopped.json(), *items[1:100]]
    second = (await shop.owner.get(path, limit=100, cursor=first["nextCursor"])).json()
    assert second["items"] == items[100:200]
    only = {"items": [stopped.json()], "nextCursor": None}
    assert (await shop.owner.get(path, active="false")).json() == only
    assert (await shop.owner.get(path, code=f" {codes[0].lower()} ")).json() == only
    for other in ({"code": codes[0], "active": "true"}, {"code": "="}):
        assert (await shop.owner.get(path, **other)).json()["items"] == []
    assert (await shop.owner.get(f"{path}/{items[0]['id']}")).json() == stopped.json()
    exported = await shop.owner.get(f"{path}.csv")
    assert exported.headers["content-type"] == "text/csv; charset=utf-8"
    head, *rows = list(csv.reader(exported.text.splitlines()))
    assert head[:4] == ["id", "code", "kind", "percent"]
    assert head == list(items[0])
    # A spreadsheet program must not take a code for a formula.
    assert [row[1] for row in rows] == [f"'{code}" for code in codes]
    both = f"{shop.types['H1']} {shop.types['H2']}"
    assert rows[0][2:-1] == [
        *("access", "", "", "ticket", both, "", "", "1", "", "0", "0"),
        "false",
    ]


async def test_codes_are_made_all_or_none(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    path = f"/api/events/{shop.event}/codes"
    await shop.make("SUMMER26")
    body = {"kind": "discount", "percent": 5}
    taken = await shop.owner.post(path, body | {"codes": ["NEW", "summer 26"]})
    assert assert_problem(taken, 409, "code_taken")["name"] == "SUMMER26"
    assert len(await shop.used()) == 1
    other = await Shop.open(visitor)
    strange = body | {"codes": ["NEW"], "ticketTypes": [other.types["P"]]}
    assert_problem(await shop.owner.post(path, strange), 404, "ticket_type_not_found")
    await other.make("SUMMER26")


@pytest.mark.parametrize(
    "wrong",
    [
        {"codes": ["A", " a"]},
        {"codes": []},
        {"codes": [" "]},
        {"draw": {"count": 1}},
        {"codes": ["A"], "percent": 0},
        {"codes": ["A"], "percent": 101},
        {"codes": ["A"], "amount": 5},
        {"codes": ["A"], "percent": None},
        {"codes": ["A"], "kind": "access"},
        {"codes": ["A"], "kind": "access", "percent": None},
        {"codes": ["A"], "ticketTypes": [1, 1]},
        {"codes": ["A"], "startsAt": SOON, "endsAt": SOON},
        {"codes": ["A"], "maxUses": 0},
        {"codes": ["A"], "draw": None, "percent": 1.5},
    ],
)
async def test_codes_that_make_no_sense_are_refused(
    visitor: Visitor, wrong: dict[str, Any]
) -> None:
    shop = await Shop.open(visitor)
    body = {"kind": "discount", "percent": 5} | wrong
    if wrong.get("draw"):
        body["codes"] = ["A"]
    made = await shop.owner.post(f"/api/events/{shop.event}/codes", body)
    assert_problem(made, 422, "validation_failed")


async def test_a_code_that_was_ever_used_is_not_deleted(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    used, unused = await shop.make("USED", "UNUSED", percent=100)
    ada = await visitor.register()
    held = await shop.held(ada, "USED", P=1)
    await ada.delete(f"/api/holds/{held['id']}")
    path = f"/api/events/{shop.event}/codes"
    assert_problem(await shop.owner.delete(f"{path}/{used['id']}"), 409, "code_redeemed")
    assert (await shop.owner.delete(f"{path}/{unused['id']}")).status_code == 204
    assert_problem(await shop.owner.delete(f"{path}/{unused['id']}"), 404, "code_not_found")
    other = await Shop.open(visitor)
    (theirs,) = await other.make("THEIRS", percent=100)
    for answer in (shop.owner.get, shop.owner.delete):
        assert_problem(await answer(f"{path}/{theirs['id']}"), 404, "code_not_found")
    stopped = await shop.owner.patch(f"{path}/{theirs['id']}", {"active": False})
    assert_problem(stopped, 404, "code_not_found")


async def sent_to(app: FastAPI, path: str, person: Person) -> Sequence[Message]:
    """Return the messages of the response to a GET, as the server gets them."""
    messages: list[Message] = []

    given = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if not given:
            await asyncio.Event().wait()  # The client stays.
        return given.pop()

    async def send(message: Message) -> None:
        messages.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (name.lower().encode(), value.encode()) for name, value in person.headers.items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
        "scheme": "http",
    }
    await app(scope, receive, send)
    return messages


async def test_an_export_that_breaks_off_has_no_end(
    visitor: Visitor, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await Shop.open(visitor)
    await shop.make(*(f"CODE-{number}" for number in range(5)))
    path = f"/api/events/{shop.event}/codes.csv"
    monkeypatch.setattr(codes, "EXPORTED_AT_ONCE", 2)
    whole = await sent_to(app, path, shop.owner)
    lines = b"".join(each["body"] for each in whole[1:]).splitlines()
    assert len(lines) == 6
    assert [each["more_body"] for each in whole[1:]] == [True] * 3 + [False]
    read = CodeRepository.list

    async def lose(
        self: CodeRepository, event_id: int, *, after: int | None, limit: int
    ) -> Page[EventCode]:
        if after is not None:
            raise DatabaseUnavailable
        return await read(self, event_id, after=after, limit=limit)

    monkeypatch.setattr(CodeRepository, "list", lose)
    start, *parts = await sent_to(app, path, shop.owner)
    assert start["status"] == 200
    assert [each["more_body"] for each in parts] == [True]


async def test_an_export_that_finds_no_database_is_a_503(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = await Shop.open(visitor)

    async def lose(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(CodeRepository, "list", lose)
    refused = await shop.owner.get(f"/api/events/{shop.event}/codes.csv")
    assert_problem(refused, 503, "database_unavailable")


async def test_as_many_codes_as_one_body_may_have_fit_into_it(visitor: Visitor) -> None:
    shop = await Shop.open(visitor)
    given = [f"{number:060}" for number in range(MAX_GIVEN)]
    made = await shop.make(*given)
    assert [each["code"] for each in made] == given
    body = {"kind": "discount", "percent": 5, "codes": [f"{n:030}" for n in range(MAX_GIVEN + 1)]}
    refused = await shop.owner.post(f"/api/events/{shop.event}/codes", body)
    (error,) = assert_problem(refused, 422, "validation_failed")["errors"]
    assert (error["pointer"], error["type"]) == ("#/codes", "too_long")
