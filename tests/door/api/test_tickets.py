"""Tickets: their holders, their codes, and how they are passed on."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.door.scenes import Gala, pass_on, scan
from tests.people import Visitor
from ticketing.door import codes
from ticketing.door.part import Door

PAST, LATER = "2020-01-01T10:00:00Z", "2100-01-01T10:00:00Z"


async def test_a_ticket_has_a_code_that_the_published_keys_verify(
    visitor: Visitor, app: FastAPI
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    booking = (await ada.book(event)).json()["id"]
    # One place at a plain event has no row of its own.
    found = (await ada.get(f"/api/tickets/{booking}")).json()
    assert found["id"] == found["bookingId"] == booking
    assert (found["generation"], found["status"]) == (1, "valid")
    assert found["holder"] == {"userId": ada.id, "name": ada.username, "email": None}
    keys = await app.state.provided[Door].keys.current()
    read = codes.read(found["code"], keys.public)
    assert read == codes.Claims(keys.signing_id, event, UUID(booking), 1)
    published = (await visitor.client.get("/.well-known/ticketing/keys.json")).json()["keys"]
    assert [each["kid"] for each in published] == [str(keys.signing_id)]
    assert {(each["kty"], each["crv"]) for each in published} == {("OKP", "Ed25519")}


async def test_only_the_holder_the_buyer_and_the_team_see_a_ticket(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    bob, eve, staff = [await visitor.register() for _ in range(3)]
    await gala.owner.appoint(gala.event, staff, "staff")
    (ticket, _) = await gala.sell(bob, 2)
    for person in (bob, gala.owner, staff):
        assert (await person.get(f"/api/tickets/{ticket}")).json()["code"]
    for path in ("", "/code.svg", "/code.png"):
        assert_problem(await eve.get(f"/api/tickets/{ticket}{path}"), 403, "forbidden")
    assert (await staff.patch(f"/api/tickets/{ticket}", {"name": "X"})).status_code == 403
    for nothing in (gala.owner.id, "none"):
        assert (await bob.get(f"/api/tickets/{nothing}")).status_code in {404, 422}


async def test_a_name_on_a_ticket_is_changed_until_the_start_and_then_by_the_team_alone(
    visitor: Visitor,
) -> None:
    gala = await Gala.open(visitor, startsAt=LATER)
    bob = await visitor.register()
    (ticket,) = await gala.sell(bob)
    path = f"/api/tickets/{ticket}"
    named = await bob.patch(path, {"name": "Ada Lovelace", "email": "ada@example.org"})
    assert named.json()["holder"] | {"userId": None} == {
        "userId": None,
        "name": "Ada Lovelace",
        "email": "ada@example.org",
    }
    code = named.json()["code"]
    assert (await bob.patch(path, {"email": None})).json()["holder"]["name"] == "Ada Lovelace"
    assert_problem(await bob.patch(path, {"validFrom": LATER}), 403, "forbidden")
    await gala.owner.patch(f"/api/events/{gala.event}", {"startsAt": PAST})
    assert_problem(await bob.patch(path, {"name": "Eve"}), 409, "holder_fixed")
    changed = (await gala.owner.patch(path, {"name": "Zoe", "validUntil": LATER})).json()
    assert (changed["holder"]["name"], changed["validUntil"]) == ("Zoe", LATER)
    assert changed["generation"] == 1
    # The window is part of what is signed.
    assert changed["code"] != code


async def test_a_ticket_that_is_valid_beyond_what_a_code_can_say_has_a_code(
    visitor: Visitor, app: FastAPI
) -> None:
    gala = await Gala.open(visitor)
    bob = await visitor.register()
    (ticket, _) = await gala.sell(bob, 2)
    path = f"/api/tickets/{ticket}"
    times = {"validFrom": "2000-01-01T00:00:00Z", "validUntil": "2199-12-31T23:59:59Z"}
    changed = await gala.owner.patch(path, times)
    assert changed.status_code == 200
    keys = await app.state.provided[Door].keys.current()
    read = codes.read(changed.json()["code"], keys.public)
    assert read is not None
    assert (read.valid_from, read.valid_until) == (946_684_800, 2**32 - 1)
    assert (await scan(gala, code=changed.json()["code"]))["verdict"] == "admitted"
    for document in (
        f"{path}/code.svg",
        f"/api/bookings/{changed.json()['bookingId']}/tickets.pdf",
    ):
        assert (await bob.get(document)).status_code == 200


async def test_a_ticket_that_is_passed_on_has_a_new_code_that_only_the_new_holder_sees(
    visitor: Visitor,
) -> None:
    gala = await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    (ticket,) = await gala.sell(bob)
    path = f"/api/tickets/{ticket}"
    await bob.patch(path, {"name": "Bob", "email": "bob@example.org"})
    before = (await bob.get(path)).json()["code"]
    offered = (await bob.post(f"{path}/transfers", None)).json()
    newer = (await bob.post(f"{path}/transfers", None, key="same")).json()
    assert (await bob.post(f"{path}/transfers", None, key="same")).json() == newer
    accept = "/api/tickets/accept"
    assert_problem(await eve.post(accept, {"token": offered["token"]}), 404, "transfer_not_found")
    # The code stays valid until somebody accepts.
    assert (await bob.get(path)).json()["code"] == before
    taken = await eve.post(accept, {"token": newer["token"]}, key="mine")
    assert taken.status_code == 200, taken.text
    assert (await eve.post(accept, {"token": newer["token"]}, key="mine")).json() == taken.json()
    assert_problem(await eve.post(accept, {"token": newer["token"]}), 404, "transfer_not_found")
    theirs = (await eve.get(path)).json()
    assert theirs == taken.json()
    assert theirs["holder"] == {"userId": eve.id, "name": eve.username, "email": None}
    assert (theirs["generation"], theirs["code"] != before) == (2, True)
    # The buyer sees whom it belongs to, and neither the code nor the address.
    await eve.patch(path, {"email": "eve@example.org"})
    assert (await eve.get(path)).json()["holder"]["email"] == "eve@example.org"
    seen = (await bob.get(path)).json()
    assert (seen["code"], seen["holder"]["email"]) == (None, None)
    assert seen["holder"]["userId"] == eve.id
    for path_of_code in ("code.svg", "code.png"):
        assert_problem(await bob.get(f"{path}/{path_of_code}"), 403, "forbidden")
    for change in (bob.patch(path, {"name": "B"}), bob.post(f"{path}/reissue", None)):
        assert_problem(await change, 403, "forbidden")
    trail = (await gala.owner.get(f"/api/events/{gala.event}/trail")).json()["items"]
    (told,) = [each for each in trail if each["action"] == "ticket.transferred"]
    assert told["subjectId"] == bob.id
    assert told["details"]["holderId"] == eve.id
    assert "Bob" not in str(trail)


async def test_the_team_passes_a_ticket_on_to_a_customer(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    (ticket,) = await gala.sell(bob)
    token = (await bob.post(f"/api/tickets/{ticket}/transfers", None)).json()["token"]
    body = {"token": token, "customer": {"externalId": "c-1", "name": "Cy"}}
    assert_problem(await eve.post("/api/tickets/accept", body), 403, "forbidden")
    taken = (await gala.owner.post("/api/tickets/accept", body, key="theirs")).json()
    again = await gala.owner.post("/api/tickets/accept", body, key="theirs")
    assert again.json() == taken
    assert taken["holder"]["name"] == "Cy"
    # Another organiser's data of the same person would not be shown. Erasing takes the name away.
    await gala.owner.patch(f"/api/tickets/{ticket}", {"name": "Cyd"})
    assert (await gala.owner.delete(f"/api/customers/{taken['holder']['userId']}")).is_success
    assert (await gala.ticket(ticket))["holder"]["name"] is None


async def test_a_refused_transfer_makes_no_customer(visitor: Visitor, engine: AsyncEngine) -> None:
    gala = await Gala.open(visitor)
    bob = await visitor.register()
    late, gone, used = await gala.sell(bob, 3)
    tokens = {
        each: (await bob.post(f"/api/tickets/{each}/transfers", None)).json()["token"]
        for each in (late, gone, used)
    }
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE ticket_details SET transfer_until = now() WHERE ticket_id = :id"),
            {"id": late},
        )
    booking = (await gala.ticket(gone))["bookingId"]
    await bob.post(f"/api/bookings/{booking}/cancel", {"ticketIds": [gone]})
    await scan(gala, ticketId=used)
    for ticket, status, code in (
        (late, 404, "transfer_not_found"),
        (gone, 409, "ticket_cancelled"),
        (used, 409, "ticket_used"),
    ):
        body = {"token": tokens[ticket], "customer": {"externalId": "C-1", "name": "Cy"}}
        for key in (None, ticket):
            refused = await gala.owner.post("/api/tickets/accept", body, key=key)
            assert_problem(refused, status, code)
    assert (await gala.owner.get("/api/customers", externalId="C-1")).json()["items"] == []


async def test_a_transfer_that_waits_for_an_import_of_customers_does_not_hold_up_the_event(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    gala = await Gala.open(visitor)
    bob = await visitor.register()
    (ticket,) = await gala.sell(bob)
    token = (await bob.post(f"/api/tickets/{ticket}/transfers", None)).json()["token"]
    body = {"token": token, "customer": {"externalId": "c-1"}}
    async with engine.connect() as importing, engine.connect() as other:
        await importing.execute(
            text(
                """
                WITH made AS (
                    INSERT INTO customers (user_id, organiser_id, external_id)
                    VALUES (gen_random_uuid(), :organiser, 'c-1') RETURNING user_id
                ) INSERT INTO users (id) SELECT user_id FROM made
                """
            ),
            {"organiser": gala.owner.id},
        )
        accepting = asyncio.create_task(gala.owner.post("/api/tickets/accept", body))
        while not accepting.done():
            # Raises if somebody has locked it.
            await other.execute(text("SELECT FROM events FOR NO KEY UPDATE NOWAIT"))
            await other.rollback()
            await asyncio.sleep(0.01)
        assert_problem(await accepting, 503, "busy")
        await importing.rollback()
    assert (await gala.owner.post("/api/tickets/accept", body)).is_success


async def test_a_ticket_is_passed_on_from_hand_to_hand(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    people = [await visitor.register() for _ in range(4)]
    (ticket,) = await gala.sell(people[0])
    codes, tokens = [(await gala.ticket(ticket))["code"]], []
    for holder, following in pairwise(people):
        tokens.append((await holder.post(f"/api/tickets/{ticket}/transfers", None)).json()["token"])
        taken = await following.post("/api/tickets/accept", {"token": tokens[-1]})
        assert taken.status_code == 200
        codes.append(taken.json()["code"])
        assert_problem(await holder.post(f"/api/tickets/{ticket}/reissue", None), 403, "forbidden")
    for token in (*tokens, "forged"):
        refused = await people[1].post("/api/tickets/accept", {"token": token})
        assert_problem(refused, 404, "transfer_not_found")
    assert (await people[0].get(f"/api/tickets/{ticket}")).json()["code"] is None
    assert_problem(await people[1].get(f"/api/tickets/{ticket}"), 403, "forbidden")
    seen = [(await scan(gala, code=code))["verdict"] for code in codes]
    assert seen == ["revoked", "revoked", "revoked", "admitted"]


async def test_a_reissue_replaces_the_code_and_voids_a_link(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    bob = await visitor.register()
    (ticket,) = await gala.sell(bob)
    path = f"/api/tickets/{ticket}"
    before = (await bob.get(path)).json()
    token = (await bob.post(f"{path}/transfers", None)).json()["token"]
    again = (await bob.post(f"{path}/reissue", None, key="lost")).json()
    assert (await bob.post(f"{path}/reissue", None, key="lost")).json() == again
    assert again["generation"] == before["generation"] + 1
    assert again["code"] != before["code"]
    accept = await gala.owner.post("/api/tickets/accept", {"token": token})
    assert_problem(accept, 404, "transfer_not_found")


async def test_a_cancelled_ticket_has_no_code_and_changes_no_more(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    bob = await visitor.register()
    gone, stays = await gala.sell(bob, 2)
    booking = (await gala.ticket(gone))["bookingId"]
    token = (await bob.post(f"/api/tickets/{gone}/transfers", None)).json()["token"]
    await bob.post(f"/api/bookings/{booking}/cancel", {"ticketIds": [gone]})
    assert (await gala.ticket(gone))["code"] is None
    assert (await gala.ticket(stays))["code"]
    for answer in (
        await bob.get(f"/api/tickets/{gone}/code.svg"),
        await bob.post(f"/api/tickets/{gone}/reissue", None),
        await bob.post(f"/api/tickets/{gone}/transfers", None),
        await bob.patch(f"/api/tickets/{gone}", {"name": "B"}),
        await bob.post("/api/tickets/accept", {"token": token}),
    ):
        assert_problem(answer, 409, "ticket_cancelled")


async def test_a_booking_that_never_had_places_has_no_ticket(visitor: Visitor) -> None:
    ada = await visitor.register()
    event = await ada.organise(1)
    await ada.book(event)
    waiting = (await (await visitor.register()).book(event)).json()["id"]
    assert_problem(await ada.get(f"/api/tickets/{waiting}"), 404, "ticket_not_found")
    pdf = await ada.get(f"/api/bookings/{waiting}/tickets.pdf")
    assert_problem(pdf, 404, "ticket_not_found")


async def test_a_plain_booking_that_only_waited_or_was_held_leaves_no_ticket_at_the_door(
    visitor: Visitor,
) -> None:
    ada, bob, eve, kim = [await visitor.register() for _ in range(4)]
    event = await ada.organise(2)
    hold = (await eve.post("/api/holds", {"eventId": event})).json()["id"]
    sold = (await ada.book(event)).json()["id"]
    waited = (await bob.book(event)).json()["id"]
    promoted = (await kim.book(event)).json()["id"]
    assert (await bob.cancel(event)).is_success
    assert (await eve.delete(f"/api/holds/{hold}")).is_success
    assert (await kim.cancel(event)).is_success
    assert (await ada.cancel(event)).is_success
    for ticket in (waited, hold):
        assert_problem(await ada.get(f"/api/tickets/{ticket}"), 404, "ticket_not_found")
    for ticket in (sold, promoted):
        assert (await ada.get(f"/api/tickets/{ticket}")).json()["status"] == "cancelled"
    manifest = (await ada.get(f"/api/events/{event}/door-manifest")).json()
    known = {each["id"] for each in manifest["items"]}
    assert known == {sold, promoted}


async def test_of_many_who_accept_at_once_one_gets_the_ticket(visitor: Visitor) -> None:
    gala = await Gala.open(visitor)
    bob = await visitor.register()
    people = [await visitor.register() for _ in range(5)]
    (ticket,) = await gala.sell(bob)
    token = (await bob.post(f"/api/tickets/{ticket}/transfers", None)).json()["token"]
    body = {"token": token}
    answers = await asyncio.gather(*[p.post("/api/tickets/accept", body) for p in people])
    assert sorted(each.status_code for each in answers) == [200, 404, 404, 404, 404]
    (winner,) = [p.id for p, each in zip(people, answers, strict=True) if each.is_success]
    assert (await gala.ticket(ticket))["holder"]["userId"] == winner
    assert (await gala.ticket(ticket))["generation"] == 2


async def test_a_link_that_expired_passes_nothing_on(visitor: Visitor, engine: AsyncEngine) -> None:
    gala = await Gala.open(visitor)
    bob, eve = [await visitor.register() for _ in range(2)]
    (ticket,) = await gala.sell(bob)
    offered = (await bob.post(f"/api/tickets/{ticket}/transfers", None)).json()
    lasts = datetime.fromisoformat(offered["expiresAt"]) - datetime.now(UTC)
    assert timedelta(days=6) < lasts < timedelta(days=8)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE ticket_details SET transfer_until = now()"))
    accept = await eve.post("/api/tickets/accept", {"token": offered["token"]})
    assert_problem(accept, 404, "transfer_not_found")


async def test_tickets_are_printed_for_paper_and_for_a_phone(visitor: Visitor) -> None:
    venue = {"name": "Ωδείο", "address": "Příčná 1 " * 30}
    gala = await Gala.open(
        visitor, timezone="Europe/Athens", startsAt="2027-06-01T20:00", venue=venue
    )
    bob, eve = [await visitor.register() for _ in range(2)]
    first, *_ = await gala.sell(bob, 10)
    booking = (await gala.ticket(first))["bookingId"]
    path = f"/api/bookings/{booking}/tickets.pdf"
    await bob.patch(f"/api/tickets/{first}", {"name": "Алла Łódź " + "w" * 190})
    paper, phone = [await bob.get(path, paper=each) for each in ("a4", "phone")]
    for made in (paper, phone):
        assert made.headers["content-type"] == "application/pdf"
        assert made.content.startswith(b"%PDF-")
        assert made.content.count(b"/Type /Page\n") == 10
    assert b"595.2756 841.8898" in paper.content
    assert phone.content.count(b"[ 0 0 280 ") == 10
    assert_problem(await eve.get(path), 403, "forbidden")
    # Whoever holds one of them gets that one.
    assert (await pass_on(first, bob, eve)).status_code == 200
    assert (await eve.get(path)).content.count(b"/Type /Page\n") == 1
    assert (await bob.get(path)).content.count(b"/Type /Page\n") == 9
    svg = await eve.get(f"/api/tickets/{first}/code.svg")
    assert (svg.headers["content-type"], svg.text[:4]) == ("image/svg+xml", "<svg")
    png = await eve.get(f"/api/tickets/{first}/code.png")
    assert (png.headers["content-type"], png.content[:4]) == ("image/png", b"\x89PNG")
