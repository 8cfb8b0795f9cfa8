"""The code of a ticket: its form, and that nobody else can make one."""

import random
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from ticketing.door import base45, codes
from ticketing.door.codes import Claims

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = {1: KEY.public_key()}
CLAIMS = Claims(1, 7, UUID("019938a5-9d21-7f01-a3b4-5c6d7e8f9a0b"), 2, 1_790_000_000, 0)


# From RFC 9285, section 4.3 and 4.4.
@pytest.mark.parametrize(
    ("plain", "text"), [("AB", "BB8"), ("Hello!!", "%69 VD92EX0"), ("base-45", "UJCLQE7W581")]
)
def test_base45_is_that_of_the_rfc(plain: str, text: str) -> None:
    assert base45.encode(plain.encode()) == text
    assert base45.decode(text) == plain.encode()


@given(st.binary(max_size=120))
def test_base45_of_any_bytes_is_read_back(data: bytes) -> None:
    assert base45.decode(base45.encode(data)) == data


@pytest.mark.parametrize("text", ["A", "ABCD", "GGW", ":::", "::", "ab", "é00"])
def test_text_that_no_bytes_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not base45"):
        base45.decode(text)


def test_a_code_says_what_was_signed_and_fits_a_small_qr_code() -> None:
    code = codes.write(CLAIMS, KEY)
    assert codes.read(code, PUBLIC) == CLAIMS
    assert len(code) == codes.LENGTH == 160
    assert set(code) <= set(base45.ALPHABET)


def test_a_code_with_any_bit_flipped_is_refused() -> None:
    data = base45.decode(codes.write(CLAIMS, KEY).removeprefix(codes.PREFIX))
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        assert codes.read(codes.PREFIX + base45.encode(bytes(changed)), PUBLIC) is None, bit


def test_no_other_text_is_a_code() -> None:
    code = codes.write(CLAIMS, KEY)
    seed = random.Random(1)
    for text in (
        *("", "TKT1:", code[:-1], code + "0", code.lower(), f" {code}", code.replace("1:", "2:")),
        *("".join(seed.choices(base45.ALPHABET, k=len(code))) for _ in range(500)),
        *(codes.PREFIX + base45.encode(seed.randbytes(codes.SIZE)) for _ in range(500)),
    ):
        assert codes.read(text, PUBLIC) is None, text


def test_a_key_that_is_not_ours_signs_no_code() -> None:
    other = Ed25519PrivateKey.generate()
    assert codes.read(codes.write(CLAIMS, other), PUBLIC) is None
    assert codes.read(codes.write(CLAIMS._replace(key=2), KEY), PUBLIC) is None
    # A signature for another purpose, of the same bytes.
    data = base45.decode(codes.write(CLAIMS, KEY).removeprefix(codes.PREFIX))
    said = data[: -codes.SIGNATURE]
    forged = codes.PREFIX + base45.encode(said + KEY.sign(said))
    assert codes.read(forged, PUBLIC) is None


@given(
    st.integers(1, 65535),
    st.integers(1, 2**53 - 1),
    st.integers(1, 2**31 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
)
def test_any_claims_are_read_back(
    key: int, event: int, generation: int, since: int, until: int
) -> None:
    claims = Claims(key, event, uuid4(), generation, since, until)
    assert codes.read(codes.write(claims, KEY), {key: KEY.public_key()}) == claims
