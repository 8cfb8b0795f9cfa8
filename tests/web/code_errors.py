"""Requests that provoke every error of the routes of codes, and of bookings with a code."""

import httpx
import pytest

from tests.people import Person
from ticketing.sale.repositories import codes

PAST, SOON = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"


async def about_codes(ada: Person, eve: Person) -> list[httpx.Response]:
    types = [{"name": "A", "price": {"amount": 1000, "currency": "EUR"}}, {"name": "B"}]
    body = {"name": "Jazz", "capacity": 10, "ticketTypes": types}
    event = (await ada.post("/api/events", body)).json()
    a, b = [each["id"] for each in event["ticketTypes"]]
    path = f"/api/events/{event['id']}/codes"
    free = {"kind": "discount", "percent": 100}
    for code, limits in (
        ("ONE", {"maxUses": 1, "maxTickets": 2}),
        ("PAST", {"endsAt": PAST}),
        ("SOON", {"startsAt": SOON}),
    ):
        await ada.post(path, free | {"codes": [code]} | limits)
    wanted = {"eventId": event["id"], "lines": [{"ticketTypeId": a, "quantity": 1}]}
    await eve.post("/api/events/book", wanted | {"code": "ONE"})
    await eve.post("/api/events/cancel", {"eventId": event["id"]})
    person = await eve.register()
    await person.post("/api/events/book", wanted | {"code": "ONE"})
    (used,) = [each["id"] for each in (await ada.get(path, limit=1)).json()["items"]]
    answers = []
    for place in ("/api/events/book", "/api/holds"):
        answers += [
            await eve.post(place, wanted | {"code": code}) for code in ("ONE", "PAST", "SOON", "NO")
        ]
        answers += [
            await eve.post(place, wanted | {"code": "ONE", "lines": [{"ticketTypeId": b}]}),
            await eve.post(
                place, wanted | {"code": "ONE", "lines": [{"ticketTypeId": a, "quantity": 3}]}
            ),
        ]
    answers += [await eve.post(f"{path}/check", {"code": code}) for code in ("PAST", "SOON", "NO")]
    answers += [
        await eve.post("/api/events/999/codes/check", {"code": "NO"}),
        await eve.post("/api/events/none/codes/check", {"code": "NO"}),
    ]
    access = {"kind": "access", "codes": ["X"], "ticketTypes": [999]}
    for person, at in ((ada, path), (eve, path), (ada, "/api/events/999/codes")):
        answers += [
            await person.post(at, access),
            await person.post(at, free | {"codes": [" o n e "]}),
            await person.get(at),
            await person.get(at, limit=0),
            await person.get(at, cursor="none"),
            await person.get(f"{at}.csv"),
            await person.patch(f"{at}/{used}", {"startsAt": SOON, "endsAt": PAST}),
            await person.delete(f"{at}/{used}"),
            await person.get(f"{at}/999"),
            await person.get(f"{at}/none"),
            await person.patch(f"{at}/999", {"active": False}),
            await person.delete(f"{at}/999"),
            await person.patch(f"{at}/none", {"active": False}),
            await person.delete(f"{at}/none"),
            await person.get(f"{at}.csv", limit=1),
        ]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(codes, "MAX_CODES", 3)
        answers.append(await ada.post(path, free | {"codes": ["MORE"]}))
    return answers
