"""A site where only the operator makes accounts."""

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.calls import MIN_ROUNDS
from tests.contract import assert_problem
from tests.people import PASSWORD, Person, Visitor
from ticketing.identity.operator import Operator
from ticketing.settings import Settings

ADA = {"username": "ada", "password": PASSWORD}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"registration": "closed"})


async def test_nobody_registers_if_registration_is_closed(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    for headers in ({}, {"Idempotency-Key": "mine"}):
        refused = await visitor.client.post("/api/users/register", json=ADA, headers=headers)
        assert_problem(refused, 403, "registration_closed")
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM users")) == 0


async def test_the_documentation_sends_nobody_to_register(visitor: Visitor) -> None:
    page = (await visitor.client.get("/docs")).text
    assert "register" not in page
    assert "which the operator of this site creates" in " ".join(page.split())
    said = (await visitor.client.get("/openapi.json")).json()["info"]["description"]
    assert "register" not in said
    assert "1. The operator of this site creates accounts." in said


async def test_a_person_whom_the_operator_added_logs_in_and_books(
    visitor: Visitor, engine: AsyncEngine
) -> None:
    await Operator(engine, MIN_ROUNDS).add_with_password("ada", PASSWORD)
    unknown = Person(visitor.client, "ada", "", "")
    ada = await unknown.again()
    me = (await ada.get("/api/users/me")).json()
    assert me["username"] == "ada"
    ada = replace(ada, id=me["id"])
    assert (await ada.book(await ada.organise())).status_code == 201
