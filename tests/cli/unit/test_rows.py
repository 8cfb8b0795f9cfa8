"""Files that people import."""

import json
from typing import Any

import pytest

from ticketing.cli.imports import _event_columns, _one_type
from ticketing.cli.rows import Column, Row, WrongFile, read, require_different, validated
from ticketing.identity.fields import CustomerIn
from ticketing.sale.details import Details, revised
from ticketing.sale.routers.events import CreateEvent
from ticketing.web.sheets import written

CUSTOMERS = {name: Column(name) for name in ("externalId", "name", "email")}
PLAIN = b"externalId,name,email\r\n1,Ada,ada@example.org\r\n2,,\r\n"


def customers(data: bytes, *, is_json: bool = False, ignores: bool = False) -> list[Any]:
    rows = read(data, CUSTOMERS, lambda _: None, is_json=is_json, ignores=ignores)
    kept = validated(rows, CustomerIn, lambda body: body)
    require_different(kept, lambda body: body.external_id, "externalId")
    return [made.model_dump() for _, made in kept]


def faults(data: bytes, *, is_json: bool = False) -> list[str]:
    with pytest.raises(WrongFile) as error:
        customers(data, is_json=is_json)
    return [str(each) for each in error.value.wrong]


def event(decimal: str = "dot", **cells: str) -> CreateEvent:
    """Read one event."""
    text = written([list(cells), list(cells.values())]).encode()
    rows = read(text, _event_columns(decimal), _one_type, is_json=False, ignores=False)

    def made(body: CreateEvent) -> CreateEvent:
        revised(Details(body.name), body.changes())
        body.definitions()
        return body

    ((_, found),) = validated(rows, CreateEvent, made)
    return found


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN.replace(b",", b";"),
        PLAIN.replace(b",", b"\t"),
        b"sep=;\r\n" + PLAIN.replace(b",", b";"),
        b"externalId , name,email \r\n 1 , Ada , ada@example.org \r\n2,,\r\n",
        PLAIN + b"\r\n,,\r\n",
        PLAIN.replace(b"Ada", b'"Ada"').removesuffix(b"\r\n"),
    ],
)
def test_a_file_is_read_however_a_program_saved_it(data: bytes) -> None:
    assert customers(data) == [
        {"external_id": "1", "name": "Ada", "email": "ada@example.org"},
        {"external_id": "2", "name": None, "email": None},
    ]


def test_json_is_read_as_the_bodies_of_the_api() -> None:
    bodies = [{"externalId": "1", "name": "Ada", "email": "ada@example.org"}, {"externalId": "2"}]
    for text in (
        json.dumps(bodies),
        json.dumps(bodies, indent=2),
        "\n".join(map(json.dumps, bodies)),
    ):
        assert customers(text.encode(), is_json=True) == customers(PLAIN)


def test_what_an_export_wrote_is_read_as_it_was() -> None:
    names = ["=1+1", "+49 170 1", "-5", "@SUM(A1)", "Doe, PhD", 'a"b', "'=1", "Müller"]
    rows = [[f"+{number}", name, None] for number, name in enumerate(names)]
    found = customers(written([["externalId", "name", "email"], *rows]).encode())
    assert [each["name"] for each in found] == names
    assert [each["external_id"] for each in found] == [row[0] for row in rows]


def test_many_rows_may_have_one_address_but_none_has_the_id_of_another() -> None:
    lines = "".join(f"{number},,family@example.org\n" for number in range(30))
    assert len(customers(f"externalId,name,email\n{lines}".encode())) == 30
    assert faults(PLAIN + b"1,Bob,\r\n") == ["line 4, column externalId: is the same as in line 2"]


def test_every_fault_is_named_with_its_line_and_column() -> None:
    data = (
        b'externalId,name,email\n1,"two\nlines",a@example.org\n'
        b"2,Bob,nobody\n3,Eve\n,Fay,fay@example.org\n"
    )
    assert faults(data) == ["line 5: has 2 cells, and the first line has 3"]
    found = faults(data.replace(b"3,Eve\n", b""))
    assert [line.partition(": ")[0] for line in found] == [
        "line 2, column name",
        "line 4, column email",
        "line 5, column externalId",
    ]
    assert faults(b"externalId;Name;mail\n1;2;3\n") == [
        "line 1, column Name: is unknown; the columns are externalId, name, email",
        "line 1, column mail: is unknown; the columns are externalId, name, email",
    ]
    assert len(customers(b"externalId;Name;mail\n1;2;3\n", ignores=True)) == 1
    assert faults(b"name,name\n") == ["line 1, column name: is there twice"]
    assert faults(b"") == faults(b"\n,\n") == ["the file is empty"]
    assert faults(b'externalId\n"1\n')[0].startswith("line 2: this is not CSV")


def test_bytes_that_are_not_utf_8_are_refused_and_never_guessed() -> None:
    data = "externalId,name\n1,Müller\n2,Bob\n3,Zoë\n".encode("cp1252")
    assert faults(data) == [
        "line 2: byte 4 is not UTF-8: save the file as UTF-8",
        "line 4: byte 5 is not UTF-8: save the file as UTF-8",
    ]


def test_faults_of_json_have_a_line_and_a_field() -> None:
    text = b'[\n {"externalId": "1"},\n {"externalId": 2,\n "nick": "x"}\n]'
    assert [line.partition(": ")[0] for line in faults(text, is_json=True)] == [
        "line 3, column externalId",
        "line 3, column nick",
    ]
    assert faults(b'[{"externalId": "1"},\n', is_json=True) == [
        "line 2: the array does not end: is it whole?"
    ]
    assert faults(b"[\n1]", is_json=True) == ["line 2: expected an object"]
    for broken in (b'[\n{"externalId": }]', b"[" * 100_000):
        assert "this is not JSON" in faults(broken, is_json=True)[0]


@pytest.mark.parametrize(
    ("decimal", "cell", "currency", "amount"),
    [
        *(("dot", "4.20", "EUR", 420), ("dot", "4.2", "EUR", 420), ("dot", "4", "EUR", 400)),
        *(("comma", "4,20", "EUR", 420), ("dot", "1000", "JPY", 1000)),
        *(("dot", "1.234", "KWD", 1234), ("dot", "0", "EUR", 0)),
    ],
)
def test_an_amount_is_read_in_the_declared_form(
    decimal: str, cell: str, currency: str, amount: int
) -> None:
    (kind,) = event(decimal, name="Jazz", capacity="5", price=cell, currency=currency).ticket_types
    assert kind.price is not None
    assert (kind.price.amount, kind.price.currency) == (amount, currency)


@pytest.mark.parametrize(
    ("decimal", "cell", "currency", "column"),
    [
        *(("dot", "4,20", "EUR", "price"), ("comma", "1.234", "EUR", "price")),
        *(("comma", "1 234,50", "EUR", "price"), ("comma", "1\u202f234,50", "EUR", "price")),
        *(("dot", "1,234.50", "EUR", "price"), ("dot", "10.5", "JPY", "price")),
        *(("dot", "1e2", "EUR", "price"), ("dot", "٤", "EUR", "price")),
        *(("dot", "1.234", "EUR", "price"), ("dot", "4", "EURO", "currency")),
        *(("dot", "4.20", "", "currency"), ("dot", "4", "", "price")),
    ],
)
def test_an_amount_that_could_be_read_in_two_ways_is_refused(
    decimal: str, cell: str, currency: str, column: str
) -> None:
    with pytest.raises(WrongFile) as error:
        event(decimal, name="Jazz", capacity="5", price=cell, currency=currency)
    (wrong,) = error.value.wrong
    assert wrong.line == 2
    assert wrong.column in {column, "currency"}


def test_events_are_refused_by_the_rules_of_the_api() -> None:
    good = {"name": "Jazz", "capacity": "5", "timezone": "Europe/Berlin"}
    for column, cell in (
        *(("name", "J"), ("capacity", "5.0"), ("capacity", "0"), ("timezone", "Berlin")),
        *(("startsAt", "2027-03-28T02:30"), ("status", "cancelled"), ("venue.latitude", "91")),
        *(("venue.longitude", "1,5"), ("url", "x"), ("startsAt", "tomorrow")),
    ):
        with pytest.raises(WrongFile) as error:
            event(**{**good, column: cell})
        assert [(each.line, each.column) for each in error.value.wrong] == [(2, column)]
    with pytest.raises(WrongFile) as error:
        event(name="Jazz")
    assert [each.column for each in error.value.wrong] == ["capacity"]
    made = event(**good, **{"venue.name": "Town hall", "startsAt": "2027-03-28T12:30"})
    assert made.venue is not None
    assert made.venue.name == "Town hall"


def test_a_row_of_json_says_where_a_nested_field_is_wrong() -> None:
    body = {"name": "Jazz", "capacity": 5, "ticketTypes": [{"name": "A", "price": {"amount": -1}}]}
    rows = [Row(7, json.dumps(body).encode())]
    with pytest.raises(WrongFile) as error:
        validated(rows, CreateEvent, lambda made: made)
    assert str(error.value.wrong[0]).startswith("line 7, column ticketTypes.0.price.amount: ")
