"""Customers: booked without an account, listed, changed, erased, and given a login."""

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import PASSWORD, Person, Visitor
from ticketing.app import create_app
from ticketing.db.facts import Origin
from ticketing.identity.part import Identity
from ticketing.identity.repositories.customers import Asked
from ticketing.settings import Settings

ADA = {"externalId": "customer-1", "name": "Ada Lovelace", "email": "ada@example.org"}


async def book(by: Person, event: int, customer: dict[str, Any], **more: str) -> httpx.Response:
    return await by.post("/api/events/book", {"eventId": event, "customer": customer}, **more)


async def cancel(by: Person, event: int, external_id: str, **more: str) -> httpx.Response:
    body = {"eventId": event, "customer": {"externalId": external_id}}
    return await by.post("/api/events/cancel", body, **more)


async def customers_of(person: Person, **parameters: str) -> list[dict[str, Any]]:
    answer = await person.get("/api/customers", **parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def bookings_at(person: Person, event: int, **parameters: str) -> list[dict[str, Any]]:
    answer = await person.get(f"/api/events/{event}/bookings", **parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


@pytest.fixture
async def shop(visitor: Visitor) -> Person:
    """The owner of events."""
    return await visitor.register()


async def test_the_first_booking_makes_the_customer_and_shows_it_to_the_team(
    shop: Person,
) -> None:
    event = await shop.organise()
    program = await shop.make_key("bookings:write", "bookings:read", "customers:read")
    booked = await book(program, event, ADA)
    assert booked.status_code == 201, booked.text
    (customer,) = await customers_of(program)
    assert customer == {
        "id": booked.json()["userId"],
        "organiserId": shop.id,
        **ADA,
        "createdAt": customer["createdAt"],
        "hasLogin": False,
    }
    (booking,) = await bookings_at(program, event)
    assert booking["username"] is None
    assert booking["customer"] == ADA
    assert (await shop.get(f"/api/customers/{customer['id']}")).json() == customer


async def test_a_second_booking_finds_the_customer_by_the_external_id(shop: Person) -> None:
    first, second = await shop.organise(), await shop.organise()
    one = await book(shop, first, ADA)
    other = await book(shop, second, {"externalId": "customer-1"})
    assert other.json()["userId"] == one.json()["userId"]
    again = await book(shop, first, ADA)
    assert_problem(again, 409, "already_booked")
    assert [each["externalId"] for each in await customers_of(shop)] == ["customer-1"]
    # Another case, and the same letter in another form, are other customers.
    for external_id in ("Customer-1", "e\u0301", "\u00e9", " customer-1"):
        assert (await book(shop, first, {"externalId": external_id})).status_code == 201
    found = [each["externalId"] for each in await customers_of(shop)]
    assert found == [" customer-1", "\u00e9", "e\u0301", "Customer-1", "customer-1"]


async def test_one_address_may_be_that_of_many_customers(shop: Person) -> None:
    event = await shop.organise()
    for number in range(3):
        family = ADA | {"externalId": f"child-{number}"}
        assert (await book(shop, event, family)).status_code == 201
    assert {each["email"] for each in await customers_of(shop)} == {"ada@example.org"}


async def test_a_booking_changes_the_name_and_the_address_if_it_gives_others(
    shop: Person, engine: AsyncEngine
) -> None:
    async def changes() -> int:
        query = text("SELECT count(*) FROM audit_records WHERE action = 'customer.changed'")
        async with engine.connect() as connection:
            return int((await connection.execute(query)).scalar_one())

    events = [await shop.organise() for _ in range(4)]
    await book(shop, events[0], {"externalId": "customer-1"})
    (customer,) = await customers_of(shop)
    assert (customer["name"], customer["email"]) == (None, None)
    await book(shop, events[1], ADA)
    (customer,) = await customers_of(shop)
    assert (customer["name"], customer["email"]) == (ADA["name"], ADA["email"])
    assert await changes() == 1
    await book(shop, events[2], ADA)
    await book(shop, events[3], {"externalId": "customer-1", "name": None})
    assert await customers_of(shop) == [customer]
    assert await changes() == 1


async def test_a_booking_is_for_one_person(shop: Person) -> None:
    event = await shop.organise()
    body = {"eventId": event, "userId": shop.id, "customer": ADA}
    for route in ("book", "cancel"):
        refused = await shop.post(
            f"/api/events/{route}", body | {"customer": {"externalId": "customer-1"}}
        )
        named = assert_problem(refused, 422, "validation_failed")["errors"]
        assert [each["type"] for each in named] == ["two_people"]
    # Without a person, it is for the caller.
    own = await shop.post("/api/events/book", {"eventId": event})
    assert own.json()["userId"] == shop.id
    assert (await shop.post("/api/events/cancel", {"eventId": event})).status_code == 200


async def test_a_shop_cancels_by_the_external_id(shop: Person) -> None:
    event = await shop.organise(total=1)
    await book(shop, event, ADA)
    waiting = await book(shop, event, {"externalId": "customer-2"})
    assert waiting.status_code == 202
    cancelled = await cancel(shop, event, "customer-1", key="one")
    assert cancelled.json()["promoted"] == 1
    assert (await cancel(shop, event, "customer-1")).json()["promoted"] == 0
    found = await bookings_at(shop, event, externalId="customer-2")
    assert [(each["status"], each["customer"]["externalId"]) for each in found] == [
        ("booked", "customer-2")
    ]
    assert_problem(await cancel(shop, event, "customer-3"), 404, "booking_not_found")
    # The response to a resent request stays, also after an erasure.
    (_, first) = await customers_of(shop)
    assert (await shop.delete(f"/api/customers/{first['id']}")).status_code == 204
    assert (await cancel(shop, event, "customer-1", key="one")).json() == cancelled.json()
    assert_problem(await cancel(shop, event, "customer-1"), 404, "booking_not_found")


async def test_the_list_of_one_customer_has_positions_and_pages(shop: Person) -> None:
    event = await shop.organise(total=1)
    for number in range(3):
        await book(shop, event, {"externalId": f"customer-{number}"})
    await cancel(shop, event, "customer-2")
    await book(shop, event, {"externalId": "customer-2"})
    found = await bookings_at(shop, event, externalId="customer-2")
    assert [(each["status"], each["position"]) for each in found] == [
        ("cancelled", None),
        ("waiting", 2),
    ]
    first = (
        await shop.get(f"/api/events/{event}/bookings", externalId="customer-2", limit=1)
    ).json()
    rest = await bookings_at(shop, event, externalId="customer-2", cursor=str(first["nextCursor"]))
    assert first["items"] + rest == found
    assert await bookings_at(shop, event, externalId="customer-2", status="waiting") == found[1:]
    assert await bookings_at(shop, event, externalId="nobody") == []


async def test_a_resent_request_is_one_booking_of_one_customer(shop: Person) -> None:
    event = await shop.organise()
    first = await book(shop, event, ADA, key="one")
    again = await book(shop, event, ADA, key="one")
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = await book(shop, event, ADA | {"name": "Ada"}, key="one")
    assert_problem(other, 422, "idempotency_key_reused")
    (customer,) = await customers_of(shop)
    assert (await shop.delete(f"/api/customers/{customer['id']}")).status_code == 204
    late = await book(shop, event, ADA, key="one")
    assert late.json() == first.json()
    assert await customers_of(shop) == []


async def test_only_the_team_books_for_customers(visitor: Visitor, shop: Person) -> None:
    event = await shop.organise()
    manager, staff, stranger = [await visitor.register() for _ in range(3)]
    await shop.appoint(event, manager, "manager")
    await shop.appoint(event, staff, "staff")
    assert (await book(manager, event, ADA)).status_code == 201
    program = await manager.make_key("bookings:write")
    assert (await book(program, event, {"externalId": "customer-2"})).status_code == 201
    for person in (staff, stranger):
        assert_problem(await book(person, event, ADA), 403, "forbidden")
        assert_problem(await cancel(person, event, "customer-1"), 403, "forbidden")
        assert_problem(await person.get("/api/customers", organiserId=shop.id), 403, "forbidden")
    reader = await manager.make_key("bookings:read")
    assert_problem(await book(reader, event, ADA), 403, "insufficient_scope")
    assert_problem(await book(manager, 999, ADA), 404, "event_not_found")
    # A customer is the owner's, whoever of the team made them.
    found = await customers_of(manager, organiserId=shop.id)
    assert [each["externalId"] for each in found] == ["customer-2", "customer-1"]
    assert await customers_of(shop) == found
    assert await customers_of(manager) == []


async def test_organisers_know_nothing_of_the_customers_of_each_other(
    visitor: Visitor, shop: Person
) -> None:
    club = await visitor.register()
    event, other = await shop.organise(), await club.organise()
    mine = (await book(shop, event, ADA)).json()["userId"]
    theirs = (await book(club, other, ADA | {"name": "Countess Lovelace"})).json()["userId"]
    assert mine != theirs
    for answer in (
        await club.get(f"/api/customers/{mine}"),
        await club.patch(f"/api/customers/{mine}", {"name": "Ada"}),
        await club.delete(f"/api/customers/{mine}"),
        await club.post(f"/api/customers/{mine}/login-token", None),
        await club.get("/api/customers", organiserId=shop.id),
    ):
        assert_problem(answer, 403, "forbidden")
    # A booking by the id shows nothing either.
    body = {"eventId": other, "userId": mine}
    assert (await club.post("/api/events/book", body)).status_code == 201
    shown = {each["userId"]: each["customer"] for each in await bookings_at(club, other)}
    assert shown[mine] is None
    assert shown[theirs]["name"] == "Countess Lovelace"


async def test_customers_are_listed_in_pages_and_found_by_their_external_id(
    shop: Person,
) -> None:
    event = await shop.organise(total=10)
    for number in range(5):
        await book(shop, event, {"externalId": f"customer-{number}"})
    listed, cursor = [], None
    while True:
        more: dict[str, str] = {} if cursor is None else {"cursor": cursor}
        page = (await shop.get("/api/customers", limit=2, **more)).json()
        listed += [each["externalId"] for each in page["items"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert listed == [f"customer-{number}" for number in (4, 3, 2, 1, 0)]
    (found,) = await customers_of(shop, externalId="customer-3")
    assert found["externalId"] == "customer-3"
    assert await customers_of(shop, externalId="CUSTOMER-3") == []


async def test_a_change_keeps_what_is_not_sent_and_removes_what_is_null(shop: Person) -> None:
    event = await shop.organise()
    customer = (await book(shop, event, ADA)).json()["userId"]
    path = f"/api/customers/{customer}"
    changed = await shop.patch(path, {"name": "Ada King"})
    assert (changed.json()["name"], changed.json()["email"]) == ("Ada King", ADA["email"])
    changed = await shop.patch(path, {"email": None})
    assert (changed.json()["name"], changed.json()["email"]) == ("Ada King", None)
    assert (await shop.patch(path, {})).json() == changed.json()
    assert_problem(await shop.patch(f"/api/customers/{shop.id}", {}), 404, "customer_not_found")


async def test_an_erased_customer_leaves_bookings_that_count_and_no_personal_data(
    shop: Person, engine: AsyncEngine
) -> None:
    event = await shop.organise(total=2)
    customer = (await book(shop, event, ADA)).json()["userId"]
    path = f"/api/customers/{customer}"
    token = (await shop.post(f"{path}/login-token", None)).json()["token"]
    assert (await shop.delete(path)).status_code == 204
    assert_problem(await shop.get(path), 404, "customer_not_found")
    assert_problem(await shop.delete(path), 404, "customer_not_found")
    assert_problem(await shop.post(f"{path}/login-token", None), 404, "customer_not_found")
    (booking,) = await bookings_at(shop, event)
    assert (booking["status"], booking["userId"]) == ("booked", customer)
    assert (booking["username"], booking["customer"]) == (None, None)
    assert (await shop.event(event))["availableTickets"] == 1
    # Nobody can be booked as the erased customer, or log in as them.
    by_id = await shop.post("/api/events/book", {"eventId": event, "userId": customer})
    assert by_id.status_code in {404, 409}
    other = await shop.organise()
    by_id = await shop.post("/api/events/book", {"eventId": other, "userId": customer})
    assert_problem(by_id, 404, "user_not_found")
    account = {"username": "ada-l", "password": PASSWORD, "token": token}
    refused = await shop.client.post("/api/users/register", json=account)
    assert_problem(refused, 401, "invalid_password_token")
    # The same external id is somebody new.
    new = (await book(shop, event, ADA)).json()["userId"]
    assert new != customer
    async with engine.connect() as connection:
        tables = (
            await connection.execute(
                text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            )
        ).scalars()
        for table in tables:
            query = text(f"SELECT count(*) FROM {table} AS t WHERE CAST(t AS text) LIKE '%Ada%'")
            found = (await connection.execute(query)).scalar_one()
            assert found == (1 if table == "customers" else 0), table


async def test_an_erased_customer_leaves_the_waiting_list(shop: Person) -> None:
    event = await shop.organise(total=1)
    first = await book(shop, event, ADA)
    second = await book(shop, event, {"externalId": "customer-2"})
    third = await book(shop, event, {"externalId": "customer-3"})
    assert [each.status_code for each in (first, second, third)] == [201, 202, 202]
    erased = await shop.delete(f"/api/customers/{second.json()['userId']}")
    assert erased.status_code == 204
    assert (await cancel(shop, event, "customer-1")).json()["promoted"] == 1
    found = {each["userId"]: each["status"] for each in await bookings_at(shop, event)}
    assert found[third.json()["userId"]] == "booked"
    assert found[second.json()["userId"]] == "cancelled"


async def test_a_customer_makes_an_account_with_a_token_and_sees_the_bookings(
    visitor: Visitor, shop: Person
) -> None:
    event = await shop.organise()
    customer = (await book(shop, event, ADA)).json()["userId"]
    path = f"/api/customers/{customer}"
    earlier = (await shop.post(f"{path}/login-token", None)).json()["token"]
    made = await shop.post(f"{path}/login-token", None, key="token")
    assert made.status_code == 201
    assert (await shop.post(f"{path}/login-token", None, key="token")).json() == made.json()
    token = made.json()["token"]
    account = {"username": "ada", "password": PASSWORD}

    async def register(given: str, **more: str) -> httpx.Response:
        body = account | {"token": given} | more
        return await visitor.client.post("/api/users/register", json=body)

    assert_problem(await register(earlier), 401, "invalid_password_token")
    assert_problem(await register(token, username=shop.username), 409, "username_taken")
    assert_problem(await register(token, password="Password1"), 422, "password_too_common")
    # It sets no password of an account, and a token for that makes no account.
    taken = {"token": token, "newPassword": PASSWORD}
    refused = await visitor.client.post("/api/users/password", json=taken)
    assert_problem(refused, 401, "invalid_password_token")
    answer = await register(token)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["id"], answer.json()["username"]) == (customer, "ada")
    assert_problem(await register(token, username="other"), 401, "invalid_password_token")
    given = (await visitor.client.post("/api/users/login", json=account)).json()
    ada = Person(visitor.client, "ada", given["userId"], given["token"])
    (mine,) = (await ada.get("/api/users/me/bookings")).json()["items"]
    assert (mine["eventId"], mine["status"]) == (event, "booked")
    assert (await ada.get("/api/users/me")).json()["username"] == "ada"
    # The shop still books for them, but can't take the account over.
    other = await shop.organise()
    assert (await book(shop, other, ADA)).json()["userId"] == customer
    assert (await shop.get(path)).json()["hasLogin"] is True
    (booking,) = await bookings_at(shop, other)
    assert (booking["username"], booking["customer"]) == ("ada", ADA)
    assert_problem(await shop.post(f"{path}/login-token", None), 409, "login_exists")
    assert (await ada.cancel(event)).status_code == 200


async def test_a_customer_with_a_token_registers_also_if_registration_is_closed(
    settings: Settings, shop: Person
) -> None:
    customer = await shop.book_for(await shop.organise(), "customer-1")
    closed = create_app(settings.model_copy(update={"registration": "closed"}))
    async with (
        closed.router.lifespan_context(closed),
        httpx.AsyncClient(transport=httpx.ASGITransport(closed), base_url="http://test") as client,
    ):
        account = {"username": "ada", "password": PASSWORD}
        refused = await client.post("/api/users/register", json=account)
        assert_problem(refused, 403, "registration_closed")
        refused = await client.post("/api/users/register", json=account | {"token": "none"})
        assert_problem(refused, 401, "invalid_password_token")
        ada = await _with_login(Visitor(client), shop, customer)
        assert ada.id == customer


async def test_a_registration_that_is_resent_gets_its_first_response(
    visitor: Visitor, shop: Person
) -> None:
    customer = await shop.book_for(await shop.organise(), "customer-1")
    made = await shop.post(f"/api/customers/{customer}/login-token", None)
    body = {"username": "ada", "password": PASSWORD, "token": made.json()["token"]}
    first, again = [
        await visitor.client.post(
            "/api/users/register", json=body, headers={"Idempotency-Key": "one"}
        )
        for _ in "12"
    ]
    assert first.status_code == 201
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"


async def test_erasing_a_customer_leaves_their_account(visitor: Visitor, shop: Person) -> None:
    event, other = await shop.organise(), await shop.organise()
    customer = (await book(shop, event, ADA)).json()["userId"]
    ada = await _with_login(visitor, shop, customer)
    assert (await shop.delete(f"/api/customers/{customer}")).status_code == 204
    (booking,) = await bookings_at(shop, event)
    assert (booking["username"], booking["customer"]) == (ada.username, None)
    assert (await ada.book(other)).status_code == 201
    new = (await book(shop, other, ADA)).json()["userId"]
    assert new != customer


async def test_deleting_the_account_erases_the_customer(visitor: Visitor, shop: Person) -> None:
    event = await shop.organise()
    customer = (await book(shop, event, ADA)).json()["userId"]
    ada = await _with_login(visitor, shop, customer)
    gone = await ada.post("/api/users/me/delete", {"password": PASSWORD})
    assert gone.status_code == 204
    assert await customers_of(shop) == []
    (booking,) = await bookings_at(shop, event)
    assert (booking["username"], booking["customer"]) == (None, None)
    assert (await book(shop, event, ADA)).json()["userId"] != customer


async def test_a_customer_has_no_role_and_owns_nothing(shop: Person) -> None:
    event = await shop.organise()
    customer = (await book(shop, event, ADA)).json()["userId"]
    refused = await shop.put(f"/api/events/{event}/team/{customer}", {"role": "staff"})
    assert_problem(refused, 404, "user_not_found")
    refused = await shop.put(f"/api/events/{event}/owner", {"userId": customer})
    assert_problem(refused, 404, "user_not_found")


async def test_the_trail_names_who_made_a_customer_and_nothing_personal(
    shop: Person, engine: AsyncEngine
) -> None:
    event = await shop.organise()
    customer = (await book(shop, event, ADA)).json()["userId"]
    await shop.patch(f"/api/customers/{customer}", {"name": "Ada King"})
    await shop.post(f"/api/customers/{customer}/login-token", None)
    await shop.delete(f"/api/customers/{customer}")
    query = text(
        "SELECT action, CAST(actor AS text), details, request_id FROM audit_records"
        " WHERE subject = CAST(:id AS uuid) AND event_id IS NULL ORDER BY seq"
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(query, {"id": customer})).all()
    assert [row[0] for row in rows] == [
        "customer.made",
        "customer.changed",
        "user.password_token_made",
        "customer.erased",
    ]
    assert {row[1] for row in rows} == {shop.id}
    assert {str(row[2]) for row in rows} == {"{}"}
    assert all(row[3] for row in rows)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("externalId", ""),
        ("externalId", "\u200b"),
        ("externalId", "\u3164"),
        ("externalId", "a\nb"),
        ("externalId", "\u202ea"),
        ("externalId", "x" * 201),
        ("externalId", 7),
        ("externalId", None),
        ("name", ""),
        ("name", "\u200b\u2060"),
        ("name", "\u115f"),
        ("name", "Ada\u0000"),
        ("name", "\u2067Ada"),
        ("name", "x" * 201),
        ("email", "ada"),
        ("email", "ada@"),
        ("email", "a b@example.org"),
        ("email", "ada@example.org\u202e"),
        ("email", "a@b\u0007"),
        ("email", "x" * 250 + "@a.org"),
        ("phone", "1"),
    ],
)
async def test_a_wrong_customer_is_refused_and_not_made(
    shop: Person, field: str, value: object
) -> None:
    event = await shop.organise()
    assert_problem(await book(shop, event, ADA | {field: value}), 422, "validation_failed")
    assert await customers_of(shop) == []


@pytest.mark.parametrize(
    "name",
    [
        "\u0645\u062d\u0645\u062f",
        "\u2067\u05d3\u05d5\u05d3\u2069",
        "\u30b5\u30af\u30e9",
        "Jose\u0301",
        "\u0e19\u0e49\u0e33",
        "\u0928\u094d\u200d\u0928",
        "\U0001f469\u200d\U0001f680",
    ],
)
async def test_a_name_in_any_script_is_kept_byte_for_byte(shop: Person, name: str) -> None:
    event = await shop.organise()
    given = {"externalId": name, "name": name, "email": f"{name}@example.org"}
    assert (await book(shop, event, given)).status_code == 201
    (customer,) = await customers_of(shop, externalId=name)
    assert {key: customer[key] for key in given} == given


async def test_many_new_customers_at_once_are_each_made_once(shop: Person) -> None:
    event = await shop.organise(total=100)
    asked = [{"externalId": f"customer-{number % 50}"} for number in range(100)]
    answers = await asyncio.gather(*(book(shop, event, each) for each in asked))
    assert sorted(each.status_code for each in answers) == [201] * 50 + [409] * 50
    first = await shop.get("/api/customers", limit=100)
    assert len(first.json()["items"]) == 50


async def test_two_services_make_one_customer_of_many_first_bookings(
    settings: Settings, shop: Person
) -> None:
    event = await shop.organise(total=100)
    other = create_app(settings)
    async with (
        other.router.lifespan_context(other),
        httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url="http://test") as client,
    ):
        both = [shop, replace(shop, client=client)]
        answers = await asyncio.gather(*(book(both[n % 2], event, ADA) for n in range(50)))
        assert sorted(each.status_code for each in answers) == [201] + [409] * 49
        many = [{"externalId": f"many-{number}"} for number in range(50)]
        answers = await asyncio.gather(
            *(book(both[n % 2], event, each) for n, each in enumerate(many))
        )
        assert {each.status_code for each in answers} == {201}
        assert len({each.json()["userId"] for each in answers}) == 50
    found = (await shop.get("/api/customers", limit=100)).json()["items"]
    assert len(found) == 51
    assert (await shop.event(event))["availableTickets"] == 49


async def test_an_erasure_between_finding_and_booking_makes_a_new_customer(
    app: FastAPI, shop: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = await shop.organise()
    old = await shop.book_for(event, "customer-1")
    await cancel(shop, event, "customer-1")
    customers = app.state.provided[Identity].customers
    find = customers.find_or_make
    erasures = [old]

    async def erased_after(asked: Asked) -> UUID:
        found: UUID = await find(asked)
        if erasures:
            assert str(found) == erasures.pop()
            await customers.erase(found, Origin())
        return found

    monkeypatch.setattr(customers, "find_or_make", erased_after)
    booked = await book(shop, event, ADA)
    assert booked.status_code == 201
    assert booked.json()["userId"] != old
    (customer,) = await customers_of(shop)
    assert customer["id"] == booked.json()["userId"]


async def _with_login(visitor: Visitor, shop: Person, customer: str) -> Person:
    """Register the customer with a token."""
    made = await shop.post(f"/api/customers/{customer}/login-token", None)
    account = {"username": "ada", "password": PASSWORD}
    body = account | {"token": made.json()["token"]}
    answer = await visitor.client.post("/api/users/register", json=body)
    assert answer.status_code == 201, answer.text
    given = (await visitor.client.post("/api/users/login", json=account)).json()
    return Person(visitor.client, "ada", given["userId"], given["token"])
