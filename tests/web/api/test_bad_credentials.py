"""Bad credentials: none gives a 500, changes a row, or takes a second."""

import base64
import json
import time

import httpx
import jwt
import pytest

from tests.contract import assert_problem
from tests.people import Person
from tests.signing import SECRET
from ticketing.identity.credentials import new_api_key, new_token
from ticketing.identity.tokens import key_id

pytestmark = pytest.mark.usefixtures("unmeasured")

KID = key_id(SECRET)


def token(key: str = SECRET, algorithm: str = "HS256", kid: object = KID, **claims: object) -> str:
    now = int(time.time())
    usual = {
        "sub": "019938a5-3c6b-7f0e-b7a2-53f0c9d1e6aa",
        "sid": "019938a5-7d10-7b3c-8a44-0e5b6f9c2d11",
        "iss": "ticketing",
        "aud": "ticketing",
        "iat": now,
        "exp": now + 60,
        "jti": "1",
    }
    given = {name: value for name, value in (usual | claims).items() if value is not ...}
    return jwt.encode(given, key, algorithm, {} if kid is ... else {"kid": kid})


def raw_token(header: bytes, claims: bytes, algorithm: str = "HS256") -> str:
    """Tokens that no library would write, signed with the service's own key."""
    header = header.replace(b"{", b'{"kid": "%s", ' % KID.encode(), 1)
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims)]
    signature = jwt.get_algorithm_by_name(algorithm).sign(b".".join(parts), SECRET.encode())
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


HS256 = b'{"alg": "HS256", "typ": "JWT"}'


def bad_tokens() -> dict[str, str]:
    now = int(time.time())
    good = token()
    head, claims, signature = good.split(".")
    payload = json.dumps(jwt.decode(good, options={"verify_signature": False})).encode()
    return {
        "another key": token("another key that is long enough for HS256"),
        "no algorithm": token("", "none"),
        "no algorithm, in capitals": raw_token(b'{"alg": "NONE"}', b"{}"),
        "another algorithm": raw_token(b'{"alg": "HS512"}', payload, "HS512"),
        "another algorithm than it says": raw_token(HS256, payload, "HS512"),
        "a number for an algorithm": raw_token(b'{"alg": 1}', b"{}"),
        "a list for an algorithm": raw_token(b'{"alg": ["HS256"]}', b"{}"),
        "an algorithm of public keys": raw_token(b'{"alg": "RS256"}', b"{}"),
        "an unknown critical header": raw_token(b'{"alg": "HS256", "crit": ["x"]}', b"{}"),
        "a detached payload": raw_token(b'{"alg": "HS256", "b64": false, "crit": ["b64"]}', b"{}"),
        "a number for a key id": raw_token(b'{"alg": "HS256", "kid": 1}', payload),
        "a list for a key id": raw_token(b'{"alg": "HS256", "kid": ["x"]}', payload),
        "a path for a key id": token(kid="../../dev/null"),
        "the id of a key that is not ours": token(kid="00000000"),
        "no key id": token(kid=...),
        "a key of its own": raw_token(b'{"alg": "HS256", "kid": "x", "jwk": {}}', payload),
        "a header that is a list": raw_token(b"[]", b"{}"),
        "a header that is no JSON": raw_token(b"{", b"{}"),
        "a header that is no UTF-8": raw_token(b"\xff", b"{}"),
        "a header nested deep": raw_token(b'{"alg": "HS256", "x": ' + b"[" * 9_000, b"{}"),
        "claims that are a list": raw_token(HS256, b"[]"),
        "claims that are no JSON": raw_token(HS256, b"{"),
        "claims nested deep": raw_token(HS256, b"[" * 9_000),
        "expired": token(exp=now - 1),
        "expired long ago": token(exp=-1),
        "not yet valid": token(nbf=now + 60),
        "issued in the future": token(iat=now + 60),
        "another audience": token(aud="elsewhere"),
        "a list of other audiences": token(aud=["elsewhere"]),
        "another issuer": token(iss="elsewhere"),
        "no subject": token(sub=...),
        "no session": token(sid=...),
        "a session that is no id": token(sid="mine"),
        "a session that is a number": token(sid=1),
        "a session that is a list": token(sid=[]),
        "no issuer": token(iss=...),
        "no audience": token(aud=...),
        "no time of issue": token(iat=...),
        "no end": token(exp=...),
        "no id": token(jti=...),
        "a subject that is no id": token(sub="ada"),
        "a subject that is a number": token(sub=1),
        "a subject that is a list": token(sub=["ada"]),
        "a subject that is nothing": token(sub=None),
        "an end that is a word": token(exp="never"),
        "an end that is infinite": token(exp=float("inf")),
        "an end that is not a number": token(exp=float("nan")),
        "an end beyond every float": token(exp=10**400),
        "an end of 5,000 digits": raw_token(HS256, b'{"exp": ' + b"9" * 5_000 + b"}"),
        "a start that is infinite": token(nbf=float("inf")),
        "an issue that is infinite": token(iat=float("inf")),
        "no signature": f"{head}.{claims}.",
        "two parts": f"{head}.{claims}",
        "four parts": f"{good}.{signature}",
        "five parts": ".".join([head] * 5),
        "another's claims": f"{head}.{token(sub='x').split('.')[1]}.{signature}",
        "a refresh token": new_token(),
        "an API key that was never made": new_api_key(),
        "an API key with a wrong check sum": new_api_key()[:-8] + "00000000",
        "an API key without one": new_api_key()[:-9],
        "half an API key": new_api_key()[:40],
        "an API key in capitals": new_api_key().upper(),
        "a huge API key": "tkt_" + "0" * 60_000,
        "an API key's prefix": "tkt_",
        "nothing": "",
        "dots": "..",
        "a word": "null",
        "a wildcard": "*",
        "a huge one": "a" * 60_000,
        "huge claims": token(x="a" * 40_000, aud="elsewhere"),
        "blanks": "a b c",
        "SQL": "' OR 1=1 --",
    }


async def test_no_bad_token_is_served(ada: Person) -> None:
    assert (await with_authorization(ada, f"Bearer {token(sub=ada.id)}")).status_code == 200
    for what, bad in bad_tokens().items():
        answer = await with_authorization(ada, f"Bearer {bad}")
        assert answer.status_code == 401, what
        assert_problem(answer, 401, "not_authenticated")
        event = {"name": "A concert", "totalTickets": 1}
        headers = {"Authorization": f"Bearer {bad}"}
        made = await ada.client.post("/api/events/initialize", headers=headers, json=event)
        assert_problem(made, 401, "not_authenticated")


async def test_no_other_scheme_is_served(ada: Person) -> None:
    for given in (
        *("", " ", "Bearer", "Bearer ", "Basic YWRhOmhvcnNl", f"Token {ada.token}", ada.token),
        *(
            f"Bearer{ada.token}",
            f"Bearer\t{ada.token}",
            f'Bearer "{ada.token}"',
            f"Bearer,{ada.token}",
        ),
        *(b"\xff\xfe", b"Bearer \xff\xfe.\xff.\xff", b"Bearer \xc3\xa9"),
    ):
        assert_problem(await with_authorization(ada, given), 401, "not_authenticated")


async def with_authorization(person: Person, given: str | bytes) -> httpx.Response:
    value = given.encode() if isinstance(given, str) else given
    return await person.client.get("/api/users/me", headers={b"Authorization": value})
