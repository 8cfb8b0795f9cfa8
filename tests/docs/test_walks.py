"""A test for each walk of docs/contributing.md. It names the step that was left out."""

import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, cast
from uuid import UUID

import pytest
from asyncpg import Record
from fastapi import FastAPI
from prometheus_client import REGISTRY, Gauge

import ticketing
from ticketing import errors
from ticketing.db.tables import Booking as BookingTable
from ticketing.identity.permissions import RULES, Action, Scope
from ticketing.ops.metrics import LATEST, LIVE
from ticketing.sale import inventory
from ticketing.sale.commit.shape import Shape
from ticketing.sale.commit.write import statement
from ticketing.sale.inventory.kind import Kind
from ticketing.sale.inventory.kinds import KINDS
from ticketing.sale.inventory.model import Booked, Booking, BookingStatus, Cancelled, Place, Waiting
from ticketing.sale.pricing import Policy, RefundKind
from ticketing.sale.repositories import held, listings
from ticketing.sale.repositories.listings import Standing
from ticketing.sale.routers.booking_fields import BookingOut, rendered
from ticketing.sale.rows import booking

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WALKS = (ROOT / "docs" / "contributing.md").read_text()
API = (ROOT / "docs" / "reference" / "api.md").read_text()
OF_TABLE = {column.name for column in BookingTable.__table__.columns}
ORDER = {"seq"}
"""Columns of a booking that only the database knows."""
RENAMED = {"type_id": "ticket_type_id", "refunds": "refund_policy"}
COLUMNS = [RENAMED.get(name, name) for name in Booking._fields if name != "tickets"]
"""The columns of the fields of a booking. Its tickets are rows of another table."""
PLAIN = {
    "slot": 0,
    "quantity": 1,
    "type_id": None,
    "amount": 0,
    "currency": None,
    "refunds": None,
    "kept": 0,
    "paid": 0,
    "refunded": 0,
    "tickets": (),
    "expires_at": None,
    "places": (),
    "code_id": None,
    "code_tickets": 0,
}
"""The defaults of a booking: the values of most, for which a commit writes no column."""
LATER = {"kept", "paid", "refunded"}
"""Fields that only a later change of the booking sets."""
SENT = [*Booking._fields[:5], "quantity", "amount", "currency", "expires_at"]


# A new field of a booking.


def test_a_booking_has_a_field_for_each_column() -> None:
    assert set(COLUMNS) == OF_TABLE - ORDER


def test_no_other_field_of_a_booking_has_a_default() -> None:
    # Otherwise nobody would notice that a step leaves the field out.
    assert Booking._field_defaults == PLAIN
    defaults = {name for name, each in BookingOut.model_fields.items() if not each.is_required()}
    assert defaults == {"promoted", "refund"}  # Lists do not set them.


def test_the_mapper_of_bookings_takes_every_field_from_its_row() -> None:
    given = {"status": "booked", "refund_policy": {"kind": "flatFee", "fee": 500}}
    row = {name: object() for name in COLUMNS} | given | {"places": [[7, 2500]]}
    found = booking(cast("Record", row))
    read = {"refund_policy": Policy(RefundKind.FLAT_FEE, fee=500), "places": (Place(7, 2500),)}
    *values, expires_at, places, code_id, code_tickets = (row | read).values()
    assert found == (*values, (), expires_at, places, code_id, code_tickets)
    assert found.status is BookingStatus.BOOKED


def test_a_booking_in_a_list_has_every_field() -> None:
    assert [each.name for each in fields(Standing)] == [*SENT, "position"]


def test_a_commit_inserts_every_field_of_a_booking() -> None:
    (columns,) = re.findall(
        r"INSERT INTO bookings \(([^)]*)\)", statement(Shape(full=True, holds=True, codes=True)).sql
    )
    assert set(re.findall(r"\w+", columns)) == set(COLUMNS) - LATER
    (columns,) = re.findall(r"INSERT INTO bookings \(([^)]*)\)", statement(Shape()).sql)
    assert set(re.findall(r"\w+", columns)) == set(Booking._fields) - PLAIN.keys()


@pytest.mark.parametrize(
    "name",
    [
        *("ACTIVE", "TICKETS", "LINES", "TYPE_LINES", "PASSED_LINES", "DUE", "NAMED", "BY_ID"),
        "LAST_CANCELLED",
    ],
)
def test_every_query_of_bookings_reads_every_field(name: str) -> None:
    sql = getattr(held, name).sql
    assert [each for each in COLUMNS if not re.search(rf"\b{each}\b", sql)] == []


@pytest.mark.parametrize("name", ["OF_USER", "OF_EVENT", "ONE"])
def test_every_list_of_bookings_reads_every_field(name: str) -> None:
    sql = getattr(listings, name).sql
    assert [each for each in COLUMNS if not re.search(rf"\b{each}\b", sql)] == []


def test_a_booking_is_sent_with_every_field() -> None:
    assert list(BookingOut.model_fields) == [*SENT, "position", "promoted", "refund"]
    one = Booking(UUID(int=1), 1, UUID(int=2), BookingStatus.BOOKED, NOW)
    for outcome, told in (
        (Booked(one), {"position": None, "promoted": None, "refund": None}),
        (Waiting(one, 3), {"position": 3, "promoted": None, "refund": None}),
        (Cancelled(one, [one], 7), {"position": None, "promoted": 1, "refund": 7}),
    ):
        document = BookingOut.model_validate_json(rendered(outcome).body)
        expected = {name: getattr(one, name) for name in SENT} | told
        assert document.model_dump() == expected


# A new kind of request to the inventory.


def test_every_kind_of_request_is_registered() -> None:
    found = {
        value.request
        for module in pkgutil.iter_modules(inventory.__path__, f"{inventory.__name__}.")
        for value in _kinds_in(import_module(module.name))
    }
    assert found == set(KINDS)


def _kinds_in(module: ModuleType) -> Iterator[Kind[Any]]:
    for value in vars(module).values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Kind):
                yield each


# A new scope.


@pytest.mark.parametrize("scope", list(Scope))
def test_every_scope_opens_something_and_is_documented(scope: Scope) -> None:
    # Any credential may read its own account.
    opened = {action for action, rule in RULES.items() if scope in rule.scopes}
    assert opened - {Action.GET_ME}
    assert f"`{scope}`" in API


# A new metric. (A new setting and a new error have tests of their own: see the page.)


def load_everything() -> None:
    for module in pkgutil.walk_packages(ticketing.__path__, "ticketing."):
        if module.name != "ticketing.__main__":
            import_module(module.name)


def test_every_metric_is_documented_and_none_that_is_not_there() -> None:
    load_everything()
    made = {family.name for family in REGISTRY.collect() if family.name.startswith("ticketing_")}
    told = set(re.findall(r"`(ticketing_\w+)`", table_of_metrics()))
    assert {name.removesuffix("_total") for name in told} - {"ticketing_build_info"} == made


def table_of_metrics() -> str:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    return "\n".join(line for line in page.splitlines() if line.startswith("| `ticketing_"))


def test_every_gauge_says_how_values_of_workers_are_combined() -> None:
    load_everything()
    modes = {
        gauge._name: gauge._multiprocess_mode
        for gauge in REGISTRY._collector_to_names
        if isinstance(gauge, Gauge) and gauge._name.startswith("ticketing_")
    }
    assert {name for name, mode in modes.items() if mode not in {LIVE, LATEST}} <= {
        "ticketing_build_info"
    }
    assert len(modes) > 5


# A new route.


async def test_every_route_is_in_the_reference(app: FastAPI) -> None:
    missing = [
        f"{method.upper()} {path}"
        for path, item in app.openapi()["paths"].items()
        for method in item
        if path != "/" and f"`{method.upper()} {path}" not in API
    ]
    assert missing == []


async def test_every_type_of_the_feed_is_in_the_reference(app: FastAPI) -> None:
    missing = [each for each in app.openapi()["webhooks"] if f"`{each}`" not in API]
    assert missing == []


# A new error. (The rest has tests of its own: see the page.)


def test_every_error_is_in_the_tree() -> None:
    tree = set(re.findall(r"\b[A-Z]\w+", (errors.__doc__ or "").partition("\nA class")[0]))
    classes = {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.TicketingError)
    }
    assert classes - tree == set()


# The page itself.


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:src|tests|docs|alembic)/[\w/.]+)`", WALKS)))
)
def test_everything_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", WALKS))))
def test_the_commands_that_the_page_names_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
