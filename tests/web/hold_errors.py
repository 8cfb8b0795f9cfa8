"""Requests that provoke every error of the routes of holds."""

import httpx

from tests.people import Person

EUR = {"amount": 1, "currency": "EUR"}
NOBODY = "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa"
HOLDS = "/api/holds"
PAST = "2020-01-01T10:00:00Z"


async def _of(person: Person, booking: str) -> list[httpx.Response]:
    path = f"{HOLDS}/{booking}"
    return [
        await person.post(f"{path}/confirm", {}),
        await person.post(f"{path}/extend", {}),
        await person.delete(path),
    ]


async def _hold(person: Person, event: int, **more: object) -> httpx.Response:
    return await person.post(HOLDS, {"eventId": event} | more)


async def about_holds(ada: Person, eve: Person) -> list[httpx.Response]:
    over = {"name": "Over", "salesCloseAt": PAST}
    types = [{"name": "A", "price": EUR}, {"name": "B", "maxPerBooking": 1}, over]
    body = {"name": "Jazz", "capacity": 9, "maxBookingsPerPerson": 2, "ticketTypes": types}
    jazz = (await ada.post("/api/events", body)).json()
    event = jazz["id"]
    a, b, c = [each["id"] for each in jazz["ticketTypes"]]
    answers = [
        await _hold(eve, 999),
        await _hold(eve, event),
        await _hold(eve, event, userId=ada.id),
        await _hold(ada, event, userId=NOBODY, quantity=1, lines=[{"ticketTypeId": b}]),
        await _hold(ada, event, userId=NOBODY, lines=[{"ticketTypeId": b}]),
        *[
            await _hold(eve, event, lines=[{"ticketTypeId": kind, "quantity": places}])
            for kind, places in ((999, 1), (b, 2), (c, 1), (a, 1), (b, 1), (b, 1))
        ],
        await _hold(ada, event, lines=[{"ticketTypeId": a, "quantity": 9}]),
    ]
    listed = (await eve.get("/api/users/me/bookings")).json()["items"]
    held = next(each["id"] for each in listed if each["amount"])
    extended = await ada.post(f"{HOLDS}/{held}/extend", {"expiresAt": "2031-01-01T00:00:00Z"})
    assert extended.status_code == 200, extended.text
    answers += await _of(eve, held)
    # It was released.
    answers += await _of(eve, held)
    for booking in (held, NOBODY, "none"):
        answers += await _of(await _somebody(eve), booking)
    answers += await _with_payments(ada, event, a, b)
    answers += await _where_one_may_have_one(ada, eve)
    (last,) = [each["id"] for each in listed if each["eventId"] == event and not each["amount"]]
    await ada.patch(f"/api/events/{event}", {"endsAt": PAST})
    answers += [*await _of(eve, last), await _hold(eve, event)]
    return answers


async def _with_payments(ada: Person, event: int, priced: int, free: int) -> list[httpx.Response]:
    answers = []
    for kind in (priced, free):
        held = (await _hold(ada, event, lines=[{"ticketTypeId": kind}])).json()["id"]
        answers += [
            await ada.post(f"{HOLDS}/{held}/confirm", {"paymentReference": "r", "amount": amount})
            for amount in (1, 2)
        ]
    return answers


async def _somebody(like: Person) -> Person:
    return await Person(like.client, "", "", "").register()


async def _where_one_may_have_one(ada: Person, eve: Person) -> list[httpx.Response]:
    event = await ada.organise(1)
    draft = await ada.draft()
    answers = [
        await _hold(eve, draft),
        await _hold(eve, event, quantity=2),
        await _hold(eve, event),
        await _hold(eve, event),
        await eve.book(event),
        await _hold(ada, event),
        await _hold(ada, event),
    ]
    held, waiting = [
        (await person.get("/api/users/me/bookings")).json()["items"][0]["id"]
        for person in (eve, ada)
    ]
    answers += await _of(ada, waiting)
    assert (await eve.post(f"{HOLDS}/{held}/confirm", {})).status_code == 200
    return [*answers, await _hold(eve, event)]
