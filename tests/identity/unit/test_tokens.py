import json
import string
import time
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import given
from hypothesis.strategies import binary, builds, dictionaries, integers, one_of, sampled_from, text

from tests.misspelt import HEADERS, spoilt
from ticketing.errors import NotAuthenticated
from ticketing.identity.callers import AccessList, Caller
from ticketing.identity.credentials import new_api_key
from ticketing.identity.tokens import CACHED_TOKENS, Tokens, key_id

SECRET = "0123456789abcdef0123456789abcdef"
ADA, PHONE = UUID(int=1), UUID(int=2)

tokens = Tokens(SECRET, 900)
token = tokens.issue(ADA, PHONE)
key = new_api_key()


@given(
    one_of(
        text(),
        HEADERS,
        builds(spoilt, sampled_from([token, key]), integers(), text(max_size=3)),
        binary().map(lambda raw: raw.decode("latin-1")),
    )
)
def test_only_the_token_itself_is_accepted(credential: str) -> None:
    fresh = Tokens(SECRET, 900)
    if credential == token:
        assert fresh.verify(credential).id == ADA
        return
    with pytest.raises(NotAuthenticated):
        fresh.verify(credential)
    assert fresh.known(credential) is None


def test_a_token_has_one_spelling() -> None:
    assert jwt.utils.base64url_decode("AB") == jwt.utils.base64url_decode("AA")
    letters = string.ascii_letters + string.digits + "-_"
    taken = [each for each in letters if is_taken(token[:-1] + each)]
    assert taken == [token[-1]]


def is_taken(credential: str) -> bool:
    try:
        return tokens.verify(credential).id == ADA
    except NotAuthenticated:
        return False


values = one_of(text(), integers(), dictionaries(text(max_size=3), integers(), max_size=2))


@given(
    dictionaries(sampled_from(["alg", "kid", "typ", "crit", "jwk", "b64"]), values),
    dictionaries(sampled_from(["sub", "sid", "iss", "aud", "iat", "exp", "nbf", "jti"]), values),
)
def test_no_claims_however_signed_break_the_reading_of_a_token(
    header: dict[str, object], claims: dict[str, object]
) -> None:
    def part(value: dict[str, object]) -> str:
        return jwt.utils.base64url_encode(json.dumps(value).encode()).decode()

    signed = f"{part({'alg': 'HS256', 'kid': key_id(SECRET)} | header)}.{part(claims)}"
    signature = jwt.get_algorithm_by_name("HS256").sign(signed.encode(), SECRET.encode())
    with pytest.raises(NotAuthenticated):
        tokens.verify(f"{signed}.{jwt.utils.base64url_encode(signature).decode()}")


def test_a_verified_token_is_known_until_its_session_is_revoked() -> None:
    access = AccessList()
    ours = Tokens(SECRET, 900, access=access)
    assert ours.known(token) is None
    assert ours.verify(token) is ours.known(token)
    access.revoke([uuid4()])
    assert ours.known(token) is not None
    access.revoke([PHONE])
    assert ours.known(token) is None
    with pytest.raises(NotAuthenticated):
        ours.verify(token)


def test_a_token_is_known_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Tokens(SECRET, 900)
    caller = ours.verify(token)
    monkeypatch.setattr("ticketing.identity.tokens.time.time", lambda: caller.expires_at)
    assert ours.known(token) is None
    with pytest.raises(NotAuthenticated):
        ours.remember(token, caller)


def test_a_token_of_a_session_that_is_ending_opens_nothing() -> None:
    last = Tokens(SECRET, 900)
    with pytest.raises(NotAuthenticated):
        last.verify(last.issue(ADA, PHONE, 0))


def test_the_known_tokens_are_bounded() -> None:
    ours = Tokens(SECRET, 900)
    caller = Caller(ADA, PHONE, time.time() + 900)
    for number in range(CACHED_TOKENS + 1):
        ours.remember(str(number), caller)
    assert ours.known("0") is None
    assert ours.known("1") is ours.known(str(CACHED_TOKENS)) is caller


def from_ahead(seconds: int) -> str:
    now = int(time.time())
    claims = {"sub": str(ADA), "sid": str(PHONE), "iss": "ticketing", "aud": "ticketing"}
    times = {"iat": now + seconds, "nbf": now + seconds, "exp": now + 900, "jti": "1"}
    return jwt.encode(claims | times, SECRET, "HS256", {"kid": key_id(SECRET)})


def test_a_token_of_a_clock_that_is_a_little_ahead_is_accepted() -> None:
    assert Tokens(SECRET, 900).verify(from_ahead(5)).credential == PHONE


def test_a_token_of_a_clock_that_is_far_ahead_names_its_session_and_opens_nothing() -> None:
    ours = Tokens(SECRET, 900)
    assert ours.named(from_ahead(300), ended=False).credential == PHONE
    assert ours.known(from_ahead(300)) is None
    with pytest.raises(NotAuthenticated):
        ours.verify(from_ahead(300))
