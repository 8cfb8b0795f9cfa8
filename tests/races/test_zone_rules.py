"""A service with later rules of time zones, on the database of one with the present rules."""

import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import tzdata
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.contract import assert_problem
from tests.people import Person, Visitor
from tests.serving import logged, serving, visiting
from tests.signing import SECRET
from ticketing.sale.repositories.local_times import LocalTimeRepository
from ticketing.sale.repositories.revisions import RevisionRepository
from ticketing.sale.times import RULES, reading

LATER = "2099z"
CHANGED = {
    # Europe ends its summer time; Tokyo begins one; Lagos moves an hour to the east.
    "Europe/Berlin": "Africa/Lagos",
    "Asia/Tokyo": "Europe/Berlin",
    "Africa/Lagos": "Africa/Johannesburg",
}
CONCERT: dict[str, Any] = {"name": "Chamber music", "capacity": 2}


@pytest.fixture
def later_rules(tmp_path: Path) -> Path:
    """A folder with a later version of the package `tzdata`."""
    package = tmp_path / "later" / "tzdata"
    present = Path(str(resources.files(tzdata)))
    shutil.copytree(present, package)
    for zone, like in CHANGED.items():
        shutil.copy(present / "zoneinfo" / like, package / "zoneinfo" / zone)
    (package / "__init__.py").write_text(f'IANA_VERSION = "{LATER}"\n')
    return package.parent


async def make(person: Person, **more: object) -> dict[str, Any]:
    made = await person.post("/api/events", CONCERT | more)
    assert made.status_code == 201, made.text
    document: dict[str, Any] = made.json()
    return document


async def test_local_times_to_come_keep_their_reading_when_the_rules_change(
    visitor: Visitor, later_rules: Path, open_dir: Path, database_url: str, engine: AsyncEngine
) -> None:
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    moved = await make(
        ada,
        timezone="Europe/Berlin",
        salesOpenAt="2020-06-01T10:00",
        startsAt="2031-06-01T19:30",
        endsAt="2031-06-01T18:00:00Z",
    )
    winter = await make(ada, timezone="Europe/Berlin", startsAt="2031-01-15T19:30")
    skipped = await make(ada, timezone="Asia/Tokyo", startsAt="2031-03-30T02:30")
    repeated = await make(ada, timezone="Asia/Tokyo", startsAt="2031-10-26T02:30")
    box = {"name": "Box", "salesOpenAt": "2031-05-01T10:00", "salesCloseAt": "2031-05-31T08:00:00Z"}
    typed = await make(ada, timezone="Europe/Berlin", ticketTypes=[box])
    past = await make(ada, timezone="Africa/Lagos", startsAt="2020-06-01T19:30")
    instant = await make(ada, timezone="Africa/Lagos", startsAt="2031-06-01T19:30:00Z")
    now = datetime.fromisoformat(moved["createdAt"])
    closes = (reading(now, "Africa/Lagos") + timedelta(minutes=30)).isoformat()
    closing = await make(ada, timezone="Africa/Lagos", salesCloseAt=closes)
    # From now on this worker remembers the terms of the sale.
    assert (await bob.book(closing["id"])).status_code == 201
    path = f"/api/events/{moved['id']}"
    etag = (await visitor.client.get(path)).headers["etag"]
    with serving(
        open_dir,
        PYTHONPATH=str(later_rules),
        TICKETING_DATABASE_URL=database_url,
        TICKETING_JWT_SECRET=SECRET,
    ) as service:
        # Now the clocks skip its start. Other changes don't mind.
        async with visiting(service) as there:
            path_of_skipped = f"/api/events/{skipped['id']}"
            by_ada = replace(ada, client=there.client)
            described = await by_ada.patch(path_of_skipped, {"description": "Late"})
            assert described.status_code == 200, described.text
    assert [line["eventId"] for line in logged(open_dir, "event.revised")] == [
        each["id"] for each in (moved, skipped, repeated, typed, closing, skipped)
    ]

    async def starts(event: dict[str, Any]) -> tuple[str, str, int]:
        found = await visitor.event(event["id"])
        return found["startsAt"], found["local"]["startsAt"], found["revision"]

    assert await starts(moved) == ("2031-06-01T18:30:00Z", "2031-06-01T19:30:00", 2)
    assert await starts(winter) == ("2031-01-15T18:30:00Z", "2031-01-15T19:30:00", 1)
    assert await starts(skipped) == ("2031-03-30T01:30:00Z", "2031-03-30T02:30:00", 3)
    assert await starts(repeated) == ("2031-10-26T00:30:00Z", "2031-10-26T02:30:00", 2)
    assert await starts(past) == (past["startsAt"], "2020-06-01T19:30:00", 1)
    assert (await visitor.event(instant["id"]))["startsAt"] == instant["startsAt"]
    after = await visitor.event(moved["id"])
    assert (after["salesOpenAt"], after["endsAt"]) == (moved["salesOpenAt"], moved["endsAt"])

    found = await visitor.event(typed["id"])
    (kind,) = found["ticketTypes"]
    assert (kind["salesOpenAt"], found["revision"]) == ("2031-05-01T09:00:00Z", 2)
    assert kind["salesCloseAt"] == "2031-05-31T08:00:00Z"

    # The change is a revision as any other.
    stale = await ada.patch(path, {"name": "Jazz"}, etag=etag)
    assert_problem(stale, 412, "precondition_failed")
    (record, *_) = (await ada.get(f"{path}/trail")).json()["items"]
    assert (record["action"], record["actorId"]) == ("event.revised", None)
    assert record["details"] == {
        "startsAt": {"from": "2031-06-01T17:30:00Z", "to": "2031-06-01T18:30:00Z"},
        "zoneRules": {"from": RULES, "to": LATER},
    }
    assert_problem(await eve.book(closing["id"]), 409, "sale_closed")

    # A worker with earlier rules leaves that alone.
    noted = {each["id"]: LATER for each in (moved, winter, skipped, repeated, typed, closing)}
    noted |= dict.fromkeys((past["id"], instant["id"]))
    assert await rules(engine) == noted
    await LocalTimeRepository(engine, RevisionRepository(engine)).read_anew()
    assert await starts(moved) == ("2031-06-01T18:30:00Z", "2031-06-01T19:30:00", 2)

    # What it reads itself is read anew by the next one with later rules.
    await ada.patch(path, {"startsAt": "2031-06-01T18:30"})
    assert (await rules(engine))[moved["id"]] == RULES


async def rules(engine: AsyncEngine) -> dict[int, str | None]:
    """Return the rules that each event's local times were read by."""
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT event_id, zone_rules FROM event_details"))
        return {row.event_id: row.zone_rules for row in rows}
