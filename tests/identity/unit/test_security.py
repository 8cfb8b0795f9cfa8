import json
import string
import time
from uuid import UUID, uuid4

import jwt
import pytest
from hypothesis import given
from hypothesis.strategies import binary, builds, dictionaries, integers, one_of, sampled_from, text

from ticketing.errors import NotAuthenticated, PasswordTooCommon
from ticketing.identity.callers import REVOKED_FOR, AccessList, Caller
from ticketing.identity.credentials import is_api_key, new_api_key
from ticketing.identity.passwords import Passwords
from ticketing.identity.tokens import CACHED_TOKENS, Tokens, key_id

SECRET = "0123456789abcdef0123456789abcdef"
ADA, PHONE = UUID(int=1), UUID(int=2)

tokens = Tokens(SECRET, 900)
token = tokens.issue(ADA, PHONE)
key = new_api_key()
headers = text("0123456789abcdefABCDEFtk_.-= \n", max_size=200)


def spoilt(good: str, at: int, by: str) -> str:
    at %= len(good)
    return good[:at] + by + good[at + 1 :]


@given(
    one_of(
        text(),
        headers,
        builds(spoilt, sampled_from([token, key]), integers(), text(max_size=3)),
        binary().map(lambda raw: raw.decode("latin-1")),
    )
)
def test_nothing_but_the_token_is_taken_for_one(credential: str) -> None:
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


@given(one_of(text(), headers, builds(spoilt, sampled_from([key]), integers(), text(max_size=3))))
def test_nothing_but_a_whole_key_is_taken_for_one(given_key: str) -> None:
    assert is_api_key(given_key) == (given_key == key)


def test_a_key_carries_256_random_bits_and_its_prefix() -> None:
    made = {new_api_key() for _ in range(100)}
    assert len(made) == 100
    assert all(is_api_key(each) and each.startswith("tkt_") for each in made)
    assert {len(each) for each in made} == {77}


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


def test_a_token_is_known_no_longer_than_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Tokens(SECRET, 900)
    caller = ours.verify(token)
    monkeypatch.setattr("ticketing.identity.tokens.time.time", lambda: caller.expires_at)
    assert ours.known(token) is None
    with pytest.raises(NotAuthenticated):
        ours.remember(token, caller)


def test_a_token_of_a_session_that_is_about_to_end_opens_nothing() -> None:
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


def test_a_token_of_a_clock_that_is_a_little_ahead_is_taken() -> None:
    now = int(time.time())
    claims = {"sub": str(ADA), "sid": str(PHONE), "iss": "ticketing", "aud": "ticketing"}
    times = {"iat": now + 5, "nbf": now + 5, "exp": now + 60, "jti": "1"}
    ahead = jwt.encode(claims | times, SECRET, "HS256", {"kid": key_id(SECRET)})
    assert Tokens(SECRET, 900).verify(ahead).credential == PHONE


def test_what_was_revoked_is_forgotten_when_it_can_matter_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    access = AccessList()
    access.revoke([PHONE])
    later = time.monotonic() + REVOKED_FOR + 1
    monkeypatch.setattr("ticketing.identity.callers.time.monotonic", lambda: later)
    access.revoke([ADA])
    assert list(access.revoked) == [ADA]


async def test_a_password_typed_in_another_encoding_is_as_common() -> None:
    passwords = Passwords(4)
    passwords.require_uncommon("e\u0301e\u0301e\u0301e\u0301", "ada")  # however short it becomes
    for common in ("Password", "pASSWORD1", "ADApassword"):
        with pytest.raises(PasswordTooCommon):
            passwords.require_uncommon(common, "Ada")
    await passwords.close()
