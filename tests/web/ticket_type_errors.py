"""Requests that provoke every error of the routes of ticket types and quotas."""

import httpx

from tests.people import Person
from ticketing.sale.definitions import MAX_QUOTAS, MAX_TYPES

EUR, USD = [{"amount": 1, "currency": code} for code in ("EUR", "USD")]


async def _of_others(path: str, ada: Person, eve: Person, answers: list[httpx.Response]) -> None:
    """Read and change what does not exist, and what is another's."""
    for person, event, one in (
        (eve, path, 1),
        (ada, path, 999),
        (ada, path, "none"),
        (ada, "/api/events/999", 1),
    ):
        for many, body in (("ticket-types", {"name": "C"}), ("quotas", {"name": "C"})):
            at = f"{event}/{many}/{one}"
            if (person, event) != (ada, path):
                answers.append(await person.post(f"{event}/{many}", body | {"capacity": 1}))
            answers += [
                await person.get(f"{event}/{many}"),
                await person.get(at),
                await person.patch(at, body),
                await person.delete(at, etag="*"),
            ]
    for many in ("ticket-types", "quotas"):
        answers += [
            await ada.get(f"{path}/{many}", unknown=0),
            await ada.get(f"/api/events/none/{many}"),
        ]


async def about_ticket_types(ada: Person, eve: Person) -> list[httpx.Response]:
    answers: list[httpx.Response] = []
    types = [
        {"name": "A", "price": EUR, "capacity": 5},
        {"name": "B"},
        *[{"name": f"Type {number}"} for number in range(MAX_TYPES - 3)],
    ]
    quotas = [{"name": f"Quota {number}", "capacity": 5} for number in range(MAX_QUOTAS - 1)]
    body = {"name": "Jazz", "capacity": 10, "ticketTypes": types, "quotas": quotas}
    event = (await ada.post("/api/events", body)).json()
    a, b = [each["id"] for each in event["ticketTypes"][:2]]
    path = f"/api/events/{event['id']}"
    of_a, of_b = f"{path}/ticket-types/{a}", f"{path}/ticket-types/{b}"
    of_quota = f"{path}/quotas/{event['quotas'][0]['id']}"
    await _of_others(path, ada, eve, answers)
    priced = [{"name": "A", "price": EUR}, {"name": "B", "price": USD}]
    answers += [
        await ada.post("/api/events", body | {"ticketTypes": [types[0], types[0]]}),
        await ada.post("/api/events", body | {"ticketTypes": priced, "quotas": []}),
        await ada.post(f"{path}/ticket-types", {"name": "C", "price": USD}),
        await ada.patch(of_b, {"price": USD}),
        await ada.post(f"{path}/ticket-types", {"name": "B"}),
        await ada.patch(of_a, {"name": "B"}),
        await ada.post(f"{path}/quotas", {"name": "Quota 1", "capacity": 1}),
        await ada.patch(of_quota, {"name": "Quota 1"}),
        *[await ada.patch(at, {"name": "C"}, etag=None) for at in (of_a, of_quota)],
        *[await ada.patch(at, {"name": "C"}, etag='"9"') for at in (of_a, of_quota)],
        *[await ada.delete(at) for at in (of_a, of_quota)],
        *[await ada.delete(at, etag='"9"') for at in (of_a, of_quota)],
    ]
    for many, fields in (("ticket-types", {}), ("quotas", {"capacity": 1})):
        stale = ada.headers | {"If-Match": '"9"'}
        answers.append(
            await ada.client.post(f"{path}/{many}", json={"name": "C", **fields}, headers=stale)
        )
    await ada.sell(event["id"], a, places=3)
    taken = {"capacity": 2, "ticketTypes": [a]}
    answers += [
        await ada.patch(of_a, {"price": USD}),
        await ada.patch(of_a, {"capacity": 2}),
        await ada.patch(of_quota, taken),
        await ada.post(f"{path}/quotas", {"name": "C", **taken}),
        await ada.delete(of_a, etag="*"),
    ]
    await ada.patch(of_a, {"price": None})
    answers.append(await ada.post(f"{path}/ticket-types", {"name": "C", "price": USD}))
    for number in "12":
        answers += [
            await ada.post(f"{path}/ticket-types", {"name": f"Last {number}"}),
            await ada.post(f"{path}/quotas", {"name": f"Last {number}", "capacity": 1}),
        ]
    plain = await ada.organise()
    (only,) = (await ada.get(f"/api/events/{plain}/ticket-types")).json()["items"]
    answers.append(await ada.delete(f"/api/events/{plain}/ticket-types/{only['id']}", etag="*"))
    await ada.post(f"{path}/cancel", None)
    answers += [
        await ada.post(f"{path}/ticket-types", {"name": "C"}),
        await ada.post(f"{path}/quotas", {"name": "C", "capacity": 1}),
        *[await ada.patch(at, {"name": "C"}) for at in (of_b, of_quota)],
        *[await ada.delete(at, etag="*") for at in (of_b, of_quota)],
    ]
    return answers
