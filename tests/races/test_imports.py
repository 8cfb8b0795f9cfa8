"""`ticketing import`, as an operator runs it beside a service."""

import asyncio
import json
import os
import subprocess
from functools import partial
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.people import Visitor
from tests.serving import TICKETING, UNMEASURED
from tests.signing import SECRET

EVENTS = """name;capacity;timezone;startsAt;venue.name;price;currency
Jazz;20;Europe/Berlin;2037-11-02T19:30;Town hall;4,20;EUR
Blues;30;Europe/Berlin;2037-11-03T19:30;;;
"""
CUSTOMERS = "externalId,name,email\r\n" + "".join(
    f"'+49 {number},Müller {number},family@example.org\r\n" for number in range(999)
)


async def imported(
    database_url: str, folder: Path, *arguments: str, status: int = 0, data: str = ""
) -> str:
    """Run `ticketing import` and return what it says."""
    done = await asyncio.to_thread(
        subprocess.run,
        [*TICKETING, "import", *arguments],
        cwd=folder,
        env={
            **os.environ,
            **UNMEASURED,
            "TICKETING_DATABASE_URL": database_url,
            "TICKETING_JWT_SECRET": SECRET,
        },
        input=data.encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return (done.stderr if status else done.stdout).decode()


async def test_an_operator_imports_all_of_a_file_or_nothing(
    visitor: Visitor, database_url: str, tmp_path: Path
) -> None:
    ada = await visitor.register()

    run = partial(imported, database_url, tmp_path)
    of_ada = ("--organiser", ada.username.upper())

    async def customers() -> list[dict[str, str]]:
        found = await ada.get("/api/customers", limit=100)
        items: list[dict[str, str]] = found.json()["items"]
        return items

    file = tmp_path / "customers.csv"
    file.write_text(f"{CUSTOMERS}last,Eve,nobody\r\n", encoding="utf-8-sig", newline="")
    refused = await run("customers", *of_ada, str(file), status=1)
    assert refused.splitlines()[0].startswith("line 1001, column email: ")
    assert refused.splitlines()[-1].endswith("has 1 fault: nothing was imported")
    told = await run("customers", *of_ada, "-", "--dry-run", data=CUSTOMERS)
    assert told == "Would import 999 customers: 999 new, 0 changed, 0 as before.\n"
    assert await customers() == []
    told = await run("customers", *of_ada, "-", data=CUSTOMERS)
    assert told == "Imported 999 customers: 999 new, 0 changed, 0 as before.\n"
    assert "+49 998" in {each["externalId"] for each in await customers()}
    # Those of an export are the same.
    event = await ada.organise(total=100)
    for number in range(3):
        customer = {"externalId": f"+49 {number}", "name": "=1" if number else None}
        made = await ada.post("/api/events/book", {"eventId": event, "customer": customer})
        assert made.is_success
    exported = await ada.get(f"/api/events/{event}/attendees.csv", bom=1)
    told = await run("customers", *of_ada, "-", "--ignore-columns", data=exported.content.decode())
    assert told == "Imported 3 customers: 0 new, 0 changed, 3 as before.\n"

    assert "line 2, column price: write an amount as 1234.50" in await run(
        "events", *of_ada, "-", status=1, data=EVENTS
    )
    for new in (2, 0):
        told = await run("events", *of_ada, "-", "--decimal", "comma", data=EVENTS)
        assert told == f"Imported 2 events: {new} new, {2 - new} as before.\n"
    listed = (await ada.get("/api/users/me/events")).json()["items"]
    blues, jazz, _ = listed
    assert (blues["name"], jazz["name"], jazz["venue"]["name"]) == ("Blues", "Jazz", "Town hall")
    assert jazz["ticketTypes"][0]["price"]["amount"] == 420
    trail = (await ada.get(f"/api/events/{jazz['id']}/trail")).json()["items"]
    assert [(each["action"], each["actorId"]) for each in trail] == [("event.created", None)]
    gone = await run("events", *of_ada, str(tmp_path / "none.csv"), status=1)
    assert gone.endswith("none.csv can't be read: No such file or directory\n")


async def test_an_operator_imports_bookings_each_row_once(
    visitor: Visitor, engine: AsyncEngine, database_url: str, tmp_path: Path
) -> None:
    """C34, and C32 for bookings."""
    ada, bob = [await visitor.register() for _ in range(2)]
    event = await ada.organise(total=40)
    run = partial(imported, database_url, tmp_path, "bookings", "--event", str(event), "-")

    def family(size: int) -> str:
        """Return so many rows with one address."""
        members = (f"+1 {n},=Müller {n},family@example.org\n" for n in range(size))
        return "externalId,name,email\n" + "".join(members)

    async def tickets() -> list[dict[str, str]]:
        found = await ada.get(f"/api/events/{event}/attendees.json")
        items: list[dict[str, str]] = found.json()["items"]
        return items

    refused = await run(status=1, data=family(2).replace("name", "nome"))
    assert refused.startswith("line 1, column nome: is unknown; the columns are externalId, name,")
    told = await run("--dry-run", data=family(30))
    assert told == "Would import 30 bookings: 30 new, 0 as before.\n"
    assert await tickets() == []
    async with engine.begin() as connection:
        await connection.execute(text("SELECT FROM events FOR UPDATE"))
        refused = await run(status=1, data=family(30))
    assert refused == (
        "ticketing: nothing was imported, because others changed the same event or customers:"
        " try again\n"
    )
    told = await run(data=family(30))
    assert told == "Imported 30 bookings: 30 new, 0 as before.\n"
    told = await run(data=family(31))
    assert told == "Imported 31 bookings: 1 new, 30 as before.\n"
    assert {each["email"] for each in await tickets()} == {"family@example.org"}
    refused = await run(status=1, data=family(43))
    assert refused.startswith("3 places of the ticket type 'General admission' are missing\n")
    assert len(await tickets()) == 31
    assert len((await ada.get("/api/customers", limit=100)).json()["items"]) == 31
    # An export has also what was booked by an account, and what was cancelled.
    await bob.book(event)
    await ada.post(f"/api/bookings/{(await tickets())[0]['bookingId']}/cancel", {})
    before = await tickets()
    exported = await ada.get(f"/api/events/{event}/attendees.csv", bom=1)
    for data in (exported.content.decode(), json.dumps(before)):
        told = await run(data=data)
        assert told == "Imported 32 bookings: 0 new, 32 as before.\n"
    assert await tickets() == before
    assert await run(data=family(31)) == "Imported 31 bookings: 0 new, 31 as before.\n"
