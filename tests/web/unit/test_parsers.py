"""Parsers of headers and cursors accept valid input, and never fail with another error."""

import asyncio
from contextlib import suppress
from ipaddress import IPv4Network, ip_address
from string import printable
from types import SimpleNamespace
from uuid import UUID

import pytest
from fastapi import Request
from httptools import HttpRequestParser
from hypothesis import example, given, settings
from hypothesis.strategies import binary, from_regex, integers, lists, one_of, sampled_from, text
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import create_async_engine

from ticketing.db.pages import Page
from ticketing.errors import InvalidCursor, InvalidIdempotencyKey, NotAuthenticated
from ticketing.identity.callers import AccessList
from ticketing.identity.credentials import new_api_key
from ticketing.identity.part import Identity
from ticketing.identity.permissions import Action
from ticketing.identity.repositories.keys import KeyRepository
from ticketing.identity.routers.authentication import Bearer
from ticketing.identity.tokens import Tokens
from ticketing.server.admission import Shedding
from ticketing.web import proxies
from ticketing.web.bodies import is_json
from ticketing.web.lists import PageOut, decode_cursor
from ticketing.web.policy import Policy
from ticketing.web.proxies import TrustedProxies
from ticketing.web.replay import Rendered, keyed_request
from ticketing.web.request_log import _noted
from ticketing.web.table import PROVIDED

SALE = Shedding(("/api/events/book", "/api/events/cancel"))
SECRET = "0123456789abcdef0123456789abcdef"
ADA, PHONE = UUID(int=1), UUID(int=2)
VISIBLE = {chr(code) for code in range(0x21, 0x7F)}

# As a server passes them on: each byte is a character.
fields = binary(max_size=300).map(lambda raw: raw.decode("latin-1"))


def shown(key: int) -> str | None:
    """Return the cursor of a page that ends with this key."""
    return PageOut[int].of(Page([], key)).next_cursor


@given(one_of(text(), text("0123456789abcdef", max_size=20), from_regex(r"[0-9a-f]{14,16}\s?")))
@example("1\n")
@example("\u0661")
@example("f" * 16)
def test_any_text_as_a_cursor_is_a_number_or_refused(cursor: str) -> None:
    with suppress(InvalidCursor):
        key = decode_cursor(cursor)
        assert key is not None
        assert 0 < key < 2**63
        assert shown(key) == cursor


@given(integers(1, 2**60 - 1))
def test_a_cursor_of_the_service_is_accepted(key: int) -> None:
    assert decode_cursor(shown(key)) == key


def sent(field: str) -> bytes:
    try:
        return field.encode("latin-1")
    except UnicodeEncodeError:
        return field.encode(errors="surrogatepass")


def caller_of(authorization: str) -> UUID:
    # Nothing listens there: an invalid credential must not cause a query.
    engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    provided = {
        Identity: SimpleNamespace(
            tokens=Tokens(SECRET, 900), keys=KeyRepository(engine, AccessList()), limits=None
        )
    }
    route = SimpleNamespace(policy=Policy(Action.GET_ME))
    headers = [(b"authorization", sent(authorization))]
    request = Request({"type": "http", "headers": headers, "route": route, PROVIDED: provided})
    return asyncio.run(Bearer()(request)).id


GOOD = Tokens(SECRET, 900).issue(ADA, PHONE)


@given(
    one_of(
        fields,
        text(),
        fields.map("Bearer ".__add__),
        fields.map(f"Bearer {GOOD}".__add__),
        fields.map(lambda more: f"Bearer {more}{GOOD}"),
        fields.map("bearer tkt_".__add__),
        sampled_from([GOOD, f"Basic {GOOD}", f"Bearer  Bearer {GOOD}", new_api_key()]),
    )
)
@example(f"Bearer {GOOD}=")
@example(f"Bearer {GOOD[:-5]}!{GOOD[-5:]}")
def test_any_text_as_a_credential_is_a_401(authorization: str) -> None:
    scheme, _, credential = authorization.partition(" ")
    # Spaces around it belong to the header. The last character of base64 has unused bits.
    is_good = credential.strip()[:-1] == GOOD[:-1] and len(credential.strip()) == len(GOOD)
    try:
        assert caller_of(authorization) == ADA
        assert scheme.lower() == "bearer"
        assert is_good
    except NotAuthenticated:
        assert scheme.lower() != "bearer" or credential.strip() != GOOD


class Asked(BaseModel):
    pass


def key_of(header: str) -> str | None:
    found = keyed_request(ADA, header, Asked(), lambda _: Rendered(200, b""))
    return found.key if found is not None else None


@given(one_of(fields, text(), text(printable, max_size=300)))
@example('"')
@example('""')
@example('"a')
@example("a" * 256)
@example("a\n")
def test_any_text_as_an_idempotency_key_is_one_or_refused(header: str) -> None:
    with suppress(InvalidIdempotencyKey):
        key = key_of(header)
        assert key is not None
        assert 1 <= len(key) <= 255
        assert set(key) <= VISIBLE
        assert header in {key, f'"{key}"'}


async def _nothing(*_: object) -> None:
    """A route that is not called."""


TRUSTED = TrustedProxies(_nothing, [IPv4Network("10.0.0.0/8")])
hops = one_of(fields, sampled_from(["10.0.0.1", "10.1.1.1:80", "192.0.2.1", "[2001:db8::1]:5"]))


@given(sampled_from(["192.0.2.7", "10.0.0.9"]), fields, hops)
def test_with_any_forwarded_header_the_client_is_an_address_that_a_proxy_saw(
    peer: str, claimed: str, last: str
) -> None:
    found, is_believed = TRUSTED._find(peer, f"{claimed},{last}".encode("latin-1"))
    assert is_believed == (peer != "192.0.2.7")
    assert ip_address(found)
    if peer == "192.0.2.7":
        assert found == peer
    nearest = proxies._address(last.rpartition(",")[2].strip())
    if peer != "192.0.2.7" and nearest is None:
        assert found == peer
    if peer != "192.0.2.7" and nearest is not None and nearest not in IPv4Network("10.0.0.0/8"):
        assert found == str(nearest)


@given(binary(max_size=100))
def test_any_text_as_a_request_id_is_valid_or_replaced(value: bytes) -> None:
    found, _ = _noted([(b"x-request-id", value)])
    if found is not None:
        assert found.encode() == value
        assert 1 <= len(found) <= 64
        assert set(found) <= VISIBLE - set("\"'<>;")


@given(one_of(binary(max_size=60), binary(max_size=5).map(b"application/json".__add__)))
def test_any_text_as_a_type_is_json_or_not(kind: bytes) -> None:
    if is_json(kind):
        assert kind.partition(b";")[0].strip().lower().startswith(b"application/")
        assert b"json" in kind.lower()


START = b"POST /api/events/book HTTP/1.1\r\n"


@given(
    one_of(binary(), binary().map(START.__add__), binary().map(lambda b: START + b + b"\r\n\r\n{}"))
)
def test_any_bytes_during_overload_break_nothing(data: bytes) -> None:
    answer = SALE.find(data, SALE.answers([], "0" * 32))
    assert answer is None or answer.startswith(b"HTTP/1.1 503 ")


class Read:
    """Return the requests that the parser finds in the bytes."""

    def __init__(self) -> None:
        self.fields: set[bytes] = set()
        self.ended = 0

    def on_header(self, name: bytes, _: bytes) -> None:
        self.fields.add(name.lower())

    def on_message_complete(self) -> None:
        self.ended += 1


FRAGMENTS = (
    *(b"Host: a\r\n", b"A: b\xff\r\n", b"content-LENGTH: 2\r\n", b"Content-Length: 0\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"),
    *(b"Connection: keep-alive\r\n", b"Connection: close\r\n", b"X-Request-ID: a\r\n"),
    *(b"A: b\r", b"A: b\n", b"A: b\0\r\n", b"A : b\r\n", b" a\r\n", b"\r\n", b"a"),
)


@pytest.mark.usefixtures("unmeasured")
@settings(max_examples=2000)
@given(lists(sampled_from(FRAGMENTS), max_size=8), lists(sampled_from(FRAGMENTS), max_size=4))
def test_a_request_that_is_refused_unparsed_is_one_plain_request_for_the_parser(
    before: list[bytes], after: list[bytes]
) -> None:
    # If service and proxy disagreed where a request ends, one client could act as another.
    data = b"".join([START, *before, b"Content-Length: 2\r\n", *after, b"\r\n{}"])
    if SALE.find(data, SALE.answers([], "0" * 32)) is None:
        return
    read = Read()
    parser = HttpRequestParser(read)
    parser.feed_data(data)
    assert read.ended == 1
    assert parser.should_keep_alive()
    assert not parser.should_upgrade()
    assert read.fields.isdisjoint({b"transfer-encoding", b"expect", b"upgrade", b"x-request-id"})
    assert b"content-length" in read.fields
