"""Names that were given to tickets go with the people they belong to."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.door.scenes import Gala, pass_on
from tests.people import PASSWORD, Person, Visitor
from ticketing.door.repositories.tickets import TicketRepository

NAMES = text("SELECT name FROM ticket_details ORDER BY name")
NAME_ALL = text("UPDATE ticket_details SET name = 'Guest', email = 'guest@example.com'")


async def names(engine: AsyncEngine) -> list[str | None]:
    async with engine.connect() as connection:
        return list((await connection.execute(NAMES)).scalars())


async def leave(person: Person) -> None:
    gone = await person.post("/api/users/me/delete", {"password": PASSWORD})
    assert gone.status_code == 204, gone.text


async def test_names_of_people_who_are_gone_are_erased(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    gala = await Gala.open(visitor)
    ada, bob, eve = [await visitor.register() for _ in range(3)]
    (kept,) = await gala.sell(ada)
    (passed_on,) = await gala.sell(bob)
    assert (await pass_on(passed_on, bob, eve)).status_code == 200
    (of_bob,) = await gala.sell(await visitor.register())
    for ticket, name in ((kept, "Ada"), (passed_on, "Eve"), (of_bob, "Guest")):
        named = await gala.owner.patch(f"/api/tickets/{ticket}", {"name": name})
        assert named.status_code == 200, named.text
    # Bob has passed his ticket on, so the name on it is not his.
    await leave(bob)
    assert await names(engine) == ["Ada", "Eve", "Guest"]
    await leave(eve)
    assert await names(engine) == ["Ada", "Guest", None]


async def test_names_that_stayed_while_the_database_was_away_are_erased_later(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    gala = await Gala.open(visitor)
    ada, bob = [await visitor.register() for _ in range(2)]
    for person in (ada, bob):
        (ticket,) = await gala.sell(person)
        await person.patch(f"/api/tickets/{ticket}", {"name": person.username})
    await leave(bob)
    async with engine.begin() as connection:
        await connection.execute(NAME_ALL)
    await TicketRepository(engine).forget_departed()
    assert await names(engine) == ["Guest", None]
