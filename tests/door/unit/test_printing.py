"""Lines of a printed ticket, in scripts of both directions."""

import unicodedata

import hypothesis.strategies as st
from hypothesis import example, given

from ticketing.door.printing import Line, Sheet, laid_out


def lines(text: str, room: float = 400) -> list[Line]:
    return laid_out(Sheet("", "", [text]), room)[1:]


def test_hebrew_is_read_from_the_right_and_what_is_in_it_from_the_left() -> None:
    assert lines("שלום עולם (12) Ada") == [("Ada (12) םלוע םולש", 11.0, True)]
    assert lines("Ada: שלום, 12:30") == [("Ada: 12:30 ,םולש", 11.0, False)]


def test_arabic_letters_are_joined() -> None:
    (line,) = lines("سلام")
    assert [unicodedata.name(each) for each in line.text] == [
        "ARABIC LETTER MEEM ISOLATED FORM",
        "ARABIC LIGATURE LAM WITH ALEF FINAL FORM",
        "ARABIC LETTER SEEN INITIAL FORM",
    ]


def test_a_long_line_from_the_right_goes_on_below_what_is_read_first() -> None:
    first, second = lines("אחת שתיים", room=40)
    assert (first.text, second.text) == ("תחא", "םייתש")
    assert first.is_leftward
    assert second.is_leftward


def test_other_scripts_stay_as_they_are() -> None:
    text = "Ada Łódź, Ελλάδα, Москва (12:30)"
    assert lines(text) == [(text, 11.0, False)]


@given(st.text(max_size=40))
@example("\U00018d09")
@example("\u2067\u202e\u2066")
def test_every_text_can_be_printed(text: str) -> None:
    assert all(line.size > 0 for line in lines(text))
