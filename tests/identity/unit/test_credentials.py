from hypothesis import given
from hypothesis.strategies import builds, integers, one_of, sampled_from, text

from tests.misspelt import HEADERS, spoilt
from ticketing.identity.credentials import is_api_key, new_api_key

key = new_api_key()


@given(one_of(text(), HEADERS, builds(spoilt, sampled_from([key]), integers(), text(max_size=3))))
def test_only_a_whole_key_is_recognised_as_one(given_key: str) -> None:
    assert is_api_key(given_key) == (given_key == key)


def test_a_key_carries_256_random_bits_and_its_prefix() -> None:
    made = {new_api_key() for _ in range(100)}
    assert len(made) == 100
    assert all(is_api_key(each) and each.startswith("tkt_") for each in made)
    assert {len(each) for each in made} == {77}
