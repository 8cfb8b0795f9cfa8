"""Characters that are allowed in names."""

import unicodedata
from typing import Annotated

import pytest
from pydantic import TypeAdapter, ValidationError

from ticketing.web.labels import Label

NAME = TypeAdapter[str](Annotated[str, Label(3, 100, "A concert")])

KEPT = [
    "Konzert für Cello",
    "مهرجان الموسيقى",
    "می\u200cخواهم",  # a joiner that Persian needs
    "संगीत समारोह",
    "クラシック音楽の夕べ",
    "음악회 밤",
    "คอนเสิร์ต",
    "👩\u200d👩\u200d👧 day",
    "Ярмарка",
    "e\u0301te\u0301",  # NFD stays NFD
    "soft\u00adhyphen",
    "\u2067עברית\u2069 and more",
    "\u202bעברית\u202c and more",
    "\u200fעברית",
    "★★★",
    "123",
    "a b c",
    "\U0001fc00\U0001fc00\U0001fc00",  # a symbol of a later Unicode
]


@pytest.mark.parametrize("name", KEPT)
def test_names_in_real_scripts_are_kept_unchanged(name: str) -> None:
    assert NAME.validate_python(name) == name
    assert NAME.validate_python(f"  {name}\n") == name


@pytest.mark.parametrize(
    "character",
    [
        *("\u200b", "\u2800", "\u3164", "\u00ad", "\ufeff", "\u2060", "\u0301", "\u115f"),
        *("\U0001d159", "\U000e0f00", "\ufff0"),
    ],
)
def test_an_invisible_text_is_no_name(character: str) -> None:
    for name in (character * 3, f"{character} {character} {character}"):
        with pytest.raises(ValidationError):
            NAME.validate_python(name)
    assert NAME.validate_python(f"abc{character}") == f"abc{character}"


@pytest.mark.parametrize(
    "character", ["\n", "\x1b", "\x07", "\u2028", "\u2029", "\x00", "\x7f", "\x85", "\t", "\x9b"]
)
def test_no_control_character_is_in_a_name(character: str) -> None:
    with pytest.raises(ValidationError, match="Control characters"):
        NAME.validate_python(f"before{character}behind")


@pytest.mark.parametrize(
    "name",
    [
        "abc\u202edef",
        "abc\u202adef",
        "abc\u2066def",
        "abc\u202cdef",
        "abc\u2069def",
        "\u2067abc\u202c",
        "\u202babc\u2069",
        "\u2067\u202babc\u2069\u202c",
    ],
)
def test_no_change_of_direction_lasts_beyond_a_name(name: str) -> None:
    with pytest.raises(ValidationError, match="direction"):
        NAME.validate_python(name)


@pytest.mark.parametrize("character", ["e\u0301", "ㅎㅏㄴ"[0], "\u1112\u1161\u11ab"])
def test_the_length_of_a_name_is_its_number_of_characters(character: str) -> None:
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, character * 100)
        assert NAME.validate_python(name) == name
        with pytest.raises(ValidationError, match="at most 100"):
            NAME.validate_python(name + "x")
    with pytest.raises(ValidationError, match="at least 3"):
        NAME.validate_python(unicodedata.normalize("NFD", character * 2))
