"""Spellings that a search treats as the same."""

import unicodedata

import pytest

from ticketing.sale.folding import folded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Café", unicodedata.normalize("NFD", "Café")),
        ("Café", "cafe"),
        ("CAFÉ", "café"),
        (" café ", "Café"),
        ("Straße", "STRASSE"),
        ("Ａｒｔ", "art"),
        ("ﬁlm", "FILM"),
        ("two  words", "two\u00a0words"),
        ("ΟΔΟΣ", "οδος"),
        ("Ёлка", "елка"),
        ("Ǆ", "ǆ"),
    ],
)
def test_spellings_of_one_name_are_one(one: str, other: str) -> None:
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"), [("कि", "की"), ("กิน", "กน"), ("ö", "ø"), ("n", "m"), ("한", "하")]
)
def test_different_names_stay_different(one: str, other: str) -> None:
    assert folded(one) != folded(other)


def test_the_words_of_a_folded_name_have_one_space_between_them() -> None:
    assert folded(" Two\u00a0\tWords ") == "two words"
