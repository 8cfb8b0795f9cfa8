"""Requests about webhooks that are refused, for `test_errors`."""

from uuid import UUID

import httpx

from tests.people import Person
from ticketing.feed.repositories.webhooks import MAX_WEBHOOKS

NOBODY = UUID("019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa")
WEBHOOK = {"url": "http://127.0.0.1:9/hook"}


async def about_webhooks(
    event: int, ada: Person, eve: Person, gone: Person
) -> list[httpx.Response]:
    """Return the responses. `eve` has no role at the event of `ada`."""
    answers = [
        await eve.post("/api/webhooks", WEBHOOK | {"eventId": event}),
        await eve.post("/api/webhooks", WEBHOOK | {"eventId": 999}),
        await gone.post("/api/webhooks", WEBHOOK),
        await eve.get(f"/api/events/{event}/feed"),
        await eve.get("/api/events/999/feed"),
        await eve.get("/api/events/none/feed"),
    ]
    made = await ada.post("/api/webhooks", WEBHOOK)
    for whom in (made.json()["id"], NOBODY, "none"):
        path = f"/api/webhooks/{whom}"
        answers += [
            *[await eve.get(each) for each in (path, f"{path}/deliveries")],
            await eve.patch(path, {"state": "disabled"}),
            *[await eve.post(f"{path}/{move}", None) for move in ("secret", "test")],
            await eve.post(f"{path}/replay", {"cursor": "1"}),
            await eve.delete(path),
        ]
    answers += [await ada.post("/api/webhooks", WEBHOOK) for _ in range(MAX_WEBHOOKS)]
    return answers
