"""Webhooks: signed, at least once, in order, and disabled with a reason."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.feed.receiving import LOOPBACK, Received, delivering, receiving
from tests.people import PASSWORD, Person, Visitor
from tests.signing import SECRET
from ticketing.feed import calling
from ticketing.feed.places import Places, Room
from ticketing.feed.repositories.deliveries import DeliveryRepository
from ticketing.feed.repositories.facts import FactRepository
from ticketing.settings import Settings
from ticketing.web.seals import Seals

NOBODY = "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"
WHY = """
    SELECT details ->> 'reason' FROM audit_records
    WHERE action = 'webhook.disabled' AND details ->> 'webhookId' = :id
"""
BUSY = "SELECT EXISTS (SELECT FROM webhooks WHERE lease IS NOT NULL OR NOT rests)"
FAILED = "SELECT count(*) FROM webhook_deliveries WHERE status IS NULL"
BOOKED_OR_CANCELLED = ["booking.booked", "booking.cancelled"]
A_DAY_LATER = "UPDATE webhooks SET previous_until = now() WHERE lease IS NULL"
AGO = """
    UPDATE webhooks SET failing_since = now() - interval '3 days 1 minute', due_at = now()
    WHERE failing_since IS NOT NULL AND lease IS NULL
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The application only keeps webhooks. Each test delivers as it needs."""
    return settings.model_copy(update={"webhook_delivery": "off", "webhook_networks": LOOPBACK})


async def create(person: Person, url: str, **more: object) -> dict[str, Any]:
    made = await person.post("/api/webhooks", {"url": url, **more})
    assert made.status_code == 201, made.text
    webhook: dict[str, Any] = made.json()
    assert made.headers["location"] == f"/api/webhooks/{webhook['id']}"
    return webhook


async def shown(person: Person, webhook: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await person.get(f"/api/webhooks/{webhook['id']}")).json()
    return found


async def changed(person: Person, webhook: dict[str, Any], **to: object) -> dict[str, Any]:
    answer = await person.patch(f"/api/webhooks/{webhook['id']}", to)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def change(engine: AsyncEngine, sql: str) -> None:
    """Change a webhook once nobody is delivering to it."""
    async with asyncio.timeout(20):
        while True:
            async with engine.begin() as connection:
                if (await connection.execute(text(sql))).rowcount:
                    return
            await asyncio.sleep(0.01)


async def until_at_rest(engine: AsyncEngine) -> None:
    """Wait until nobody delivers. What is read for a delivery may be older than a change."""
    async with asyncio.timeout(20), engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        while await connection.scalar(text(BUSY)):  # noqa: ASYNC110 - others
            await asyncio.sleep(0.01)


async def until(
    person: Person, webhook: dict[str, Any], condition: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """Return the webhook once it is like that."""
    async with asyncio.timeout(20):
        while not condition(found := await shown(person, webhook)):  # noqa: ASYNC110 - elsewhere
            await asyncio.sleep(0.01)
    return found


async def missing(person: Person, cursor: str) -> list[dict[str, Any]]:
    """Return what the feed has after this cursor."""
    page = await person.get("/api/feed", cursor=cursor, limit=100)
    found: list[dict[str, Any]] = page.json()["items"]
    return found


async def until_disabled(person: Person, webhook: dict[str, Any]) -> dict[str, Any]:
    return await until(person, webhook, lambda found: found["state"] == "disabled")


def sequences(received: Sequence[Received]) -> dict[str, list[int]]:
    """Return the numbers per booking, in the order in which they arrived."""
    found: dict[str, list[int]] = {}
    for each in received:
        found.setdefault(each.fact["bookingId"], []).append(each.fact["bookingSequence"])
    return found


async def test_each_try_has_the_same_id_and_body_and_a_signature_of_its_own(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    """C37."""
    ada = await visitor.register()
    event = await ada.organise()
    answers = iter([500, 500, 200])

    async def answer(_: Received) -> int:
        return next(answers)

    async with receiving(answer) as receiver:
        webhook = await create(ada, receiver.url, types=["booking.booked"])
        await ada.book(event)
        # Longer than a second, because the time that is signed has no fraction.
        async with delivering(engine, schedule=(1.3,)):
            received = await receiver.got(3)
        verifier = Webhook(webhook["secret"])
        for each in received:
            assert verifier.verify(each.body, dict(each.headers)) == each.fact
        assert len({(each.headers["webhook-id"], each.body) for each in received}) == 1
        assert len({each.headers["webhook-signature"] for each in received}) == 3
        times = [int(each.headers["webhook-timestamp"]) for each in received]
        assert times == sorted(set(times))
        assert [each.headers["webhook-attempt"] for each in received] == ["1", "2", "3"]
        feed = (await ada.get(f"/api/events/{event}/feed")).json()["items"]
        assert received[0].fact == feed[-1]
        assert received[0].headers["webhook-id"] == str(feed[-1]["id"])
        with pytest.raises(WebhookVerificationError):
            verifier.verify(received[0].body + b" ", dict(received[0].headers))
        listed = (await ada.get(f"/api/webhooks/{webhook['id']}/deliveries")).json()["items"]
        assert [(each["attempt"], each["status"]) for each in listed] == [
            *((3, 200), (2, 500), (1, 500))
        ]
        assert (await shown(ada, webhook))["undelivered"] == 0
        assert (await shown(ada, webhook))["failingSince"] is None


async def test_what_happens_to_one_booking_arrives_in_order_however_slow_the_receiver_is(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    """C38."""
    people = [await visitor.register() for _ in range(12)]
    ada = people[0]
    event = await ada.organise(total=100)

    async def answer(request: Received) -> int:
        await asyncio.sleep(0.05 if request.fact["type"] == "booking.booked" else 0)
        return 200

    async with receiving(answer) as receiver:
        await create(ada, receiver.url, types=["booking.booked", "booking.cancelled"])
        for each in people:
            await each.book(event)
            await each.cancel(event)
        async with delivering(engine):
            received = await receiver.got(24)
    assert list(sequences(received).values()) == [[1, 2]] * 12


async def test_a_receiver_that_hangs_holds_up_nobody_else(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    """C38."""
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    hangs = asyncio.Event()

    async def hang(_: Received) -> int:
        await hangs.wait()
        return 200

    async with receiving(hang) as hanging, receiving() as receiver:
        stuck = await create(ada, hanging.url, eventId=event)
        await create(ada, receiver.url, eventId=event, types=["booking.booked"])
        await ada.book(event)
        async with delivering(engine):
            await hanging.got(1)
            await receiver.got(1)
            await bob.book(event)
            await receiver.got(2)
            assert len(hanging.received) == 1
            assert (await shown(ada, stuck))["undelivered"] == 2
            hangs.set()
            await hanging.got(2)


async def test_what_is_set_aside_is_sent_before_what_is_new_about_the_same_booking(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    """Also if less is sent at once than is set aside."""
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()

    async def refuse(_: Received) -> int:
        return 500

    async with receiving(refuse) as receiver:
        webhook = await create(ada, receiver.url, types=BOOKED_OR_CANCELLED)
        await ada.book(event)
        await bob.book(event)
        async with delivering(engine, schedule=(0.0,)):
            await receiver.got(2)
            await until(ada, webhook, lambda found: found["undelivered"] == 2)
    await bob.cancel(event)
    deliveries = DeliveryRepository(engine, FactRepository(engine), Seals(SECRET))
    (hook,) = await deliveries.claim(None, (), is_slow=False, limit=1)
    batch = await deliveries.batch(hook, limit=1)
    assert [each.type for each in batch.due] == ["booking.booked"]
    assert [each.type for each in batch.waiting] == ["booking.cancelled"]


async def test_many_slow_receivers_with_much_to_get_hold_up_no_quick_one(
    visitor: Visitor, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They accept everything, and there are more of them than places."""
    # An event is told once all older transactions of the server have ended, also those of others.
    monkeypatch.setattr(calling, "PATIENCE", 600.0)
    ada, bob, *people = [await visitor.register() for _ in range(5)]
    event = await ada.organise(total=100)
    goes_on = asyncio.Event()
    goes_on.set()

    async def answer(_: Received) -> int:
        """Take longer than a webhook may that is quick."""
        await asyncio.sleep(0.3)
        await goes_on.wait()
        return 200

    async with receiving(answer) as slow, receiving() as quick:
        for number in range(12):
            await create(ada, f"{slow.url}/{number}", eventId=event, types=BOOKED_OR_CANCELLED)
        for each in people * 6:
            await each.book(event)
            await each.cancel(event)
        places = Places(4, 4, soon=0.2)
        async with delivering(engine, places=places):
            async with asyncio.timeout(60):
                while len({each.path for each in slow.received}) < 12 or places.room().quick < 4:  # noqa: ASYNC110 - others
                    await asyncio.sleep(0.01)
                goes_on.clear()
                await ada.book(event)
                while places.room() != Room(quick=4, slow=0):  # noqa: ASYNC110 - others
                    await asyncio.sleep(0.01)
            await create(ada, quick.url, eventId=event, types=["booking.booked"])
            await bob.book(event)
            await quick.got(1)
            async with engine.connect() as connection:
                assert await connection.scalar(text(FAILED)) == 0
            goes_on.set()
            await slow.got(12 * (6 * 3 * 2 + 2))
    for number in range(12):
        got = [each for each in slow.received if each.path == f"/hook/{number}"]
        assert len({each.headers["webhook-id"] for each in got}) == len(got)
        assert all(found == sorted(found) for found in sequences(got).values())


async def test_a_webhook_that_failed_for_three_days_is_disabled_and_gets_all_later(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    """C39."""
    people = [await visitor.register() for _ in range(20)]
    ada = people[0]
    event = await ada.organise(total=100)
    works = False

    async def answer(_: Received) -> int:
        return 200 if works else 500

    async with receiving(answer) as receiver:
        webhook = await create(ada, receiver.url)
        cursor = webhook["cursor"]
        for each in people:
            await each.book(event)
            await each.cancel(event)
        async with delivering(engine, schedule=(0.05, 60)):
            await change(engine, AGO)
            found = await until_disabled(ada, webhook)
            assert found["lastError"] == "HTTP 500"
            assert found["since"] > found["failingSince"]
            assert found["undelivered"] == 40
            async with engine.connect() as connection:
                reasons = await connection.scalars(text(WHY), {"id": webhook["id"]})
                assert reasons.all() == ["HTTP 500"]
            # What it has not got can still be read, and is delivered once it works.
            async with asyncio.timeout(20):
                # The feed waits for transactions that still write.
                while len(missed := await missing(ada, cursor)) < 40:  # noqa: ASYNC110 - others
                    await asyncio.sleep(0.01)
            assert len(missed) == 40
            before = len(receiver.received)
            await ada.book(event)
            await asyncio.sleep(0.1)
            assert len(receiver.received) == before
            works = True
            again = await changed(ada, webhook, state="active")
            assert (again["state"], again["lastError"]) == ("active", None)
            received = (await receiver.got(before + 41))[before:]
            numbers = sequences(received)
            assert sorted(numbers.values()) == [[1]] + [[1, 2]] * 20
            ids = [each.headers["webhook-id"] for each in received]
            assert len(set(ids)) == 41
            # The same again, from a cursor.
            before += 41
            replayed = await ada.post(f"/api/webhooks/{webhook['id']}/replay", {"cursor": cursor})
            assert replayed.status_code == 200, replayed.text
            received = (await receiver.got(before + 41))[before:]
            assert sequences(received) == numbers
            assert {each.headers["webhook-id"] for each in received} == set(ids)
            await until(ada, webhook, lambda found: found["undelivered"] == 0)


async def test_410_disables_a_webhook_at_once(visitor: Visitor, engine: AsyncEngine) -> None:
    ada = await visitor.register()
    event = await ada.organise()

    async def answer(_: Received) -> int:
        return 410

    async with receiving(answer) as receiver, delivering(engine):
        webhook = await create(ada, receiver.url, eventId=event)
        await ada.book(event)
        found = await until_disabled(ada, webhook)
        assert (found["lastError"], found["undelivered"]) == ("HTTP 410", 1)
        assert len(receiver.received) == 1


async def test_one_event_that_is_never_accepted_holds_up_only_its_booking(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    people = [await visitor.register() for _ in range(8)]
    ada = people[0]
    event = await ada.organise(total=100)
    poison = (await ada.book(event)).json()["id"]
    refuses = True

    async def answer(request: Received) -> int:
        is_poison = request.fact["bookingId"] == poison
        return 500 if refuses and is_poison else 200

    async with receiving(answer) as receiver:
        webhook = await create(ada, receiver.url)
        await ada.cancel(event)
        for each in people[1:]:
            await each.book(event)
        await ada.book(event)
        async with delivering(engine, schedule=(0.1,)):
            await receiver.got(12)
            accepted = sequences([r for r in receiver.received if r.fact["bookingId"] != poison])
            assert len(accepted) == 8
            assert (await shown(ada, webhook))["undelivered"] == 1
            refuses = False
            before = len(receiver.received)
            await receiver.got(before + 1)
    assert set(sequences(receiver.received)[poison]) == {2}


async def test_several_processes_deliver_each_event_once(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    people = [await visitor.register() for _ in range(30)]
    ada = people[0]
    event = await ada.organise(total=100)
    async with receiving() as receiver, AsyncExitStack() as stack:
        await create(ada, receiver.url)
        for _ in range(3):
            await stack.enter_async_context(delivering(engine))
        for each in people:
            await each.book(event)
        await receiver.got(30)
        await asyncio.sleep(0.2)
    ids = [each.headers["webhook-id"] for each in receiver.received]
    assert len(ids) == len(set(ids)) == 30


async def test_a_new_secret_signs_beside_the_old_one_for_a_day(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada = await visitor.register()
    event = await ada.organise()
    async with receiving() as receiver:
        webhook = await create(ada, receiver.url)
        path = f"/api/webhooks/{webhook['id']}"
        rotated = await ada.post(f"{path}/secret", {}, key="rotate")
        assert rotated.status_code == 200, rotated.text
        again = await ada.post(f"{path}/secret", {}, key="rotate")
        assert again.json() == rotated.json()
        new = rotated.json()["secret"]
        assert new != webhook["secret"]
        await ada.book(event)
        async with delivering(engine):
            (first,) = await receiver.got(1)
            for secret in (webhook["secret"], new):
                Webhook(secret).verify(first.body, dict(first.headers))
            await change(engine, A_DAY_LATER)
            await ada.cancel(event)
            _, second = await receiver.got(2)
        Webhook(new).verify(second.body, dict(second.headers))
        with pytest.raises(WebhookVerificationError):
            Webhook(webhook["secret"]).verify(second.body, dict(second.headers))
    async with engine.connect() as connection:
        rows = (await connection.execute(text("SELECT * FROM webhooks"))).all()
    assert webhook["secret"][6:] not in str(rows)
    assert "secret" not in await shown(ada, webhook)


async def test_a_test_is_sent_at_once_and_shown(visitor: Visitor) -> None:
    ada = await visitor.register()
    async with receiving() as receiver:
        webhook = await create(ada, receiver.url)
        path = f"/api/webhooks/{webhook['id']}"
        answer = await ada.post(f"{path}/test", None)
        assert answer.status_code == 200, answer.text
        (received,) = receiver.received
        told = Webhook(webhook["secret"]).verify(received.body, dict(received.headers))
        assert told["type"] == answer.json()["type"] == "webhook.test"
        assert answer.json()["status"] == 204
        assert received.headers["webhook-id"].startswith("test_")
        assert (await ada.get(f"{path}/deliveries")).json()["items"] == [answer.json()]


async def test_redirects_are_not_followed(visitor: Visitor) -> None:
    ada = await visitor.register()

    async def answer(_: Received) -> int:
        return 307

    async with receiving(answer) as receiver, receiving() as elsewhere:
        receiver.location = elsewhere.url
        webhook = await create(ada, receiver.url)
        sent = (await ada.post(f"/api/webhooks/{webhook['id']}/test", None)).json()
        assert sent["status"] == 307
        assert elsewhere.received == []


async def test_wrong_webhooks_are_refused_and_nothing_is_made(visitor: Visitor) -> None:
    ada, eve = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    good = "https://shop.example/hook"
    for body in (
        *({"url": url} for url in ("shop.example/hook", "ftp://shop.example", "https://", "")),
        *({"url": url} for url in ("https://me:secret@shop.example", "https://me@shop.example")),
        *({"url": url} for url in ("https://shop.example:0", "https://[1", "https://a b")),
        *({"url": url} for url in ("https://shop.example:99999", f"{good}#part", f"{good}\0")),
        {"url": good, "types": ["booking.eaten"]},
        {"url": good, "types": []},
        {"url": good, "eventId": 0},
        {"url": good, "secret": "mine"},
        {},
    ):
        refused = await ada.post("/api/webhooks", body)
        assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed"), body
    assert (await eve.post("/api/webhooks", {"url": good, "eventId": event})).status_code == 403
    assert (await ada.post("/api/webhooks", {"url": good, "eventId": 999})).status_code == 404
    for key in (await ada.make_key("events:write"), await ada.make_key("bookings:read")):
        refused = await key.post("/api/webhooks", {"url": good})
        assert refused.json()["code"] == "insufficient_scope"
    assert (await ada.get("/api/webhooks")).json()["items"] == []
    program = await ada.make_key("webhooks:write")
    webhook = await create(program, good, eventId=event)
    path = f"/api/webhooks/{webhook['id']}"
    for wrong in ({"url": "x"}, {"state": "gone"}, {"types": ["x"]}, {"url": None}):
        assert (await ada.patch(path, wrong)).status_code == 422
    assert (await ada.post(f"{path}/replay", {"cursor": "-1"})).status_code == 422
    for method in (eve.get, eve.delete):
        assert (await method(path)).json()["code"] == "webhook_not_found"
    assert (await eve.patch(path, {"state": "disabled"})).status_code == 404
    del webhook["secret"]
    assert (await ada.get("/api/webhooks")).json()["items"] == [webhook]
    both = await changed(ada, webhook, types=["booking.booked"], url=good + "/2")
    assert (both["types"], both["url"]) == (["booking.booked"], good + "/2")
    assert len((await changed(ada, webhook, types=None))["types"]) > 20
    assert (await ada.delete(path)).status_code == 204
    assert (await ada.get(path)).status_code == 404


async def test_a_person_has_at_most_50_webhooks(visitor: Visitor) -> None:
    ada = await visitor.register()
    for _ in range(50):
        await create(ada, "https://shop.example/hook")
    refused = await ada.post("/api/webhooks", {"url": "https://shop.example/hook"})
    assert refused.json()["code"] == "too_many_webhooks"


async def test_who_manages_an_event_no_more_is_told_nothing_more(
    visitor: Visitor, engine: AsyncEngine, app: FastAPI
) -> None:
    del app
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    await ada.appoint(event, bob, "manager")
    async with receiving() as theirs, receiving() as all_theirs, receiving() as mine:
        await create(bob, theirs.url, eventId=event)
        await create(bob, all_theirs.url)
        await create(ada, mine.url)
        async with delivering(engine):
            await ada.book(event)
            for each in (theirs, all_theirs, mine):
                await each.got(1)
            await until_at_rest(engine)
            await ada.delete(f"/api/events/{event}/team/{bob.id}")
            await ada.cancel(event)
            await mine.got(3)
            await asyncio.sleep(0.1)
        assert len(theirs.received) == len(all_theirs.received) == 1


async def test_who_manages_an_event_no_more_does_not_get_what_was_set_aside(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise()
    await ada.appoint(event, bob, "manager")
    status = 500

    async def answer(_: Received) -> int:
        return status

    async with receiving(answer) as receiver:
        webhook = await create(bob, receiver.url)
        await ada.book(event)
        async with delivering(engine):
            await receiver.got(1)
            await until(bob, webhook, lambda found: found["lastError"] is not None)
        await ada.delete(f"/api/events/{event}/team/{bob.id}")
        before, status = len(receiver.received), 200
        async with delivering(engine):
            await until(bob, webhook, lambda found: found["undelivered"] == 0)
        assert len(receiver.received) == before


async def test_a_deleted_account_leaves_no_webhook(visitor: Visitor, engine: AsyncEngine) -> None:
    bob = await visitor.register()
    webhook = await create(bob, "https://shop.example/hook")
    deleted = await bob.post("/api/users/me/delete", {"password": PASSWORD})
    assert deleted.is_success
    async with engine.connect() as connection:
        left = await connection.scalar(
            text("SELECT count(*) FROM webhooks WHERE id = :id"), {"id": webhook["id"]}
        )
    assert left == 0
