"""Requests that provoke every error of the routes of payments and refunds."""

import httpx

from tests.people import Person

NOBODY = "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"


async def about_payments(ada: Person, eve: Person) -> list[httpx.Response]:
    types = [{"name": "A", "price": {"amount": 1000, "currency": "EUR"}}, {"name": "B"}]
    body = {"name": "Jazz", "capacity": 10, "ticketTypes": types}
    event = (await ada.post("/api/events", body)).json()
    a, b = [each["id"] for each in event["ticketTypes"]]
    priced, free = [(await ada.sell(event["id"], each))["id"] for each in (a, b)]
    record = {"reference": "r", "amount": 1000}
    answers = []
    for person, booking in (
        *((eve, priced), (ada, free), (ada, priced), (ada, priced)),
        *((ada, NOBODY), (ada, "none")),
    ):
        for path in (f"/api/bookings/{booking}/{each}" for each in ("payments", "refunds")):
            answers += [
                await person.post(path, record),
                await person.post(path, record | {"amount": 900}),
                await person.get(path),
                await person.get(path, limit=0),
                await person.get(path, cursor="none"),
            ]
    path = f"/api/events/{event['id']}/settlement"
    answers += [
        await eve.get(path),
        await ada.get(path, limit=0),
        await ada.get(path, cursor="none"),
        await ada.get("/api/events/999/settlement"),
        await ada.get("/api/events/none/settlement"),
    ]
    return answers
