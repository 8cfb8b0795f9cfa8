"""Requests that provoke every error of the routes of tickets and of the door."""

import httpx

from tests.people import Person

NOBODY = "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11"
LATER = "2100-01-01T10:00:00Z"


async def about_tickets(ada: Person, eve: Person, gone: Person) -> list[httpx.Response]:
    past = {"name": "Jazz", "capacity": 10, "startsAt": "2020-01-01T10:00:00Z"}
    event = (await ada.post("/api/events", past)).json()["id"]
    (kind,) = (await ada.event(event))["ticketTypes"]
    fay, bob = [await ada.register() for _ in range(2)]
    booking = (await ada.book(event, for_=fay)).json()["id"]
    lines = [{"ticketTypeId": kind["id"], "quantity": 2}]
    two = await ada.post("/api/events/book", {"eventId": event, "userId": bob.id, "lines": lines})
    ended, stays = (await bob.get(f"/api/bookings/{two.json()['id']}/tickets")).json()["items"]
    offered = await bob.post(f"/api/tickets/{ended['id']}/transfers", None)
    other = await bob.post(f"/api/tickets/{stays['id']}/transfers", None)
    await ada.post(f"/api/bookings/{two.json()['id']}/cancel", {"ticketIds": [ended["id"]]})
    customer = {"customer": {"externalId": "customer-1"}}
    answers = [
        await gone.post("/api/tickets/accept", {"token": other.json()["token"]}),
        await fay.patch(f"/api/tickets/{booking}", {"name": "F"}),
        await eve.post("/api/tickets/accept", {"token": "unknown"}),
        await eve.post("/api/tickets/accept", {"token": other.json()["token"]} | customer),
        await eve.post("/api/tickets/accept", {"token": offered.json()["token"]}),
        await eve.get(f"/api/bookings/{booking}/tickets.pdf"),
        await eve.get(f"/api/bookings/{booking}/tickets.pdf", paper="parchment"),
        await eve.get(f"/api/bookings/{NOBODY}/tickets.pdf"),
        await eve.get("/api/bookings/none/tickets.pdf"),
    ]
    one = (await ada.organise(1), await ada.register())
    await ada.book(one[0])
    waits = (await one[1].book(one[0])).json()["id"]
    answers.append(await one[1].get(f"/api/bookings/{waits}/tickets.pdf"))
    for person, ticket in ((eve, booking), (ada, ended["id"]), (ada, NOBODY), (ada, "none")):
        path = f"/api/tickets/{ticket}"
        answers += [
            await person.get(path),
            await person.patch(path, {"name": "F"}),
            await person.post(f"{path}/reissue", None),
            await person.post(f"{path}/transfers", None),
            await person.get(f"{path}/code.svg"),
            await person.get(f"{path}/code.png"),
        ]
    return answers


async def about_the_door(ada: Person, eve: Person) -> list[httpx.Response]:
    event = await ada.organise()
    path = f"/api/events/{event}"
    scan = {"scanId": NOBODY, "code": "unknown"}
    # With this one, somebody came in.
    booking = (await ada.book(event)).json()["id"]
    token = (await ada.post(f"/api/tickets/{booking}/transfers", None)).json()["token"]
    await ada.post(f"{path}/check-ins", {"scanId": booking, "ticketId": booking})
    answers = [
        await ada.post(f"/api/tickets/{booking}/transfers", None),
        await eve.post("/api/tickets/accept", {"token": token}),
        await ada.post(f"{path}/check-ins", scan),
        await ada.post(f"{path}/check-ins", scan | {"direction": "out"}),
        await ada.post(f"{path}/check-ins", scan | {"list": "lounge"}),
        await ada.post(f"{path}/check-ins/{event}/undo", {"reason": "x"}),
        await ada.post(f"{path}/check-ins/{ada.id}/undo", {"reason": "x"}),
        await ada.put(f"{path}/door", {"lists": [{"name": "a", "ticketTypeIds": [999999]}]}),
        await ada.put(f"{path}/door", {"lists": [{"name": "a"}, {"name": "a"}]}),
        await ada.get(f"{path}/door-manifest", page="none"),
        await ada.get(f"{path}/door-manifest", since=-1),
        await ada.get(f"{path}/check-ins", limit=0),
        await ada.get(f"{path}/check-ins", cursor="none"),
    ]
    for person, number in ((eve, event), (ada, 999), (ada, "none")):
        path = f"/api/events/{number}"
        answers += [
            await person.get(f"{path}/door"),
            await person.put(f"{path}/door", {"lists": [{"name": "main"}]}),
            await person.post(f"{path}/check-ins", scan),
            await person.post(f"{path}/check-ins/bulk", {"sentAt": LATER, "items": [{}]}),
            await person.post(f"{path}/check-ins/{NOBODY}/undo", {"reason": "x"}),
            await person.get(f"{path}/check-ins"),
            await person.get(f"{path}/door-manifest"),
            await person.get(f"{path}/attendees.csv"),
            await person.get(f"{path}/attendees.json"),
        ]
    return answers
