"""Lines of a printed ticket, in scripts of both directions."""

import base64
import re
import unicodedata
import zlib

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from ticketing.door.printing import (
    CHINESE,
    FONT,
    JAPANESE,
    KOREAN,
    Line,
    Sheet,
    laid_out,
    pdf,
    runs,
)

STREAM = re.compile(rb"ASCII85Decode[^>]*>>\s*stream\s+(.*?)~>", re.DOTALL)


def lines(text: str, room: float = 400) -> list[Line]:
    return laid_out(Sheet("", "", [text]), room)[1:]


def pieces(text: str) -> list[tuple[str, str]]:
    (line,) = lines(text)
    return runs(line.text, line.fonts)


def drawn(document: bytes) -> bytes:
    """Return what the PDF draws, in its own language."""
    return b"".join(zlib.decompress(base64.a85decode(each)) for each in STREAM.findall(document))


def test_hebrew_is_read_from_the_right_and_what_is_in_it_from_the_left() -> None:
    (line,) = lines("שלום עולם (12) Ada")
    assert line[:3] == ("Ada (12) םלוע םולש", 11.0, True)
    (line,) = lines("Ada: שלום, 12:30")
    assert line[:3] == ("Ada: 12:30 ,םולש", 11.0, False)


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
    (line,) = lines(text)
    assert line[:3] == (text, 11.0, False)
    assert pieces(text) == [(FONT, text)]


@pytest.mark.parametrize(
    ("text", "font"),
    [
        ("王小明", CHINESE),
        ("臺灣大學", CHINESE),
        ("さくら", JAPANESE),
        ("髙橋ホール", JAPANESE),
        ("김철수", KOREAN),
        (unicodedata.normalize("NFD", "김철수"), KOREAN),
    ],
)
def test_east_asian_letters_have_the_font_of_their_language(text: str, font: str) -> None:
    composed = unicodedata.normalize("NFC", text)
    assert pieces(f"Ada {text} (12)") == [(FONT, "Ada "), (font, composed), (FONT, " (12)")]


def test_a_letter_that_the_font_of_the_language_has_not_is_in_that_of_another() -> None:
    assert pieces("さくら 张伟") == [(JAPANESE, "さくら"), (FONT, " "), (CHINESE, "张伟")]


def test_letters_of_no_font_are_boxes() -> None:
    assert pieces("สมชาย \U0001f98a\U00020bb7") == [(FONT, "สมชาย \U0001f98a\U00020bb7")]


def test_east_asian_text_is_broken_where_the_line_ends() -> None:
    assert [each.text for each in lines("東京国際フォーラム", room=50)] == [
        "東京国際",
        "フォーラ",
        "ム",
    ]


def test_a_pdf_has_east_asian_names_as_text() -> None:
    document = pdf("Gala", [Sheet("TKT1:A", "Gala", ["山田さくら", "김철수", "王小明"])], "a4")
    for name, encoding in (
        ("山田さくら", b"UniJIS-UCS2-H"),
        ("김철수", b"UniKS-UCS2-H"),
        ("王小明", b"UniGB-UCS2-H"),
    ):
        assert encoding in document
        assert name.encode("utf-16-be") in _unescaped(drawn(document))


def _unescaped(text: bytes) -> bytes:
    """Return the text of PDF strings without their escapes."""
    octal = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), text)
    return re.sub(rb"\\(.)", rb"\1", octal, flags=re.DOTALL)


@given(st.text(max_size=40))
@example("\U00018d09")
@example("\u2067\u202e\u2066")
def test_every_text_can_be_printed(text: str) -> None:
    assert all(line.size > 0 for line in lines(text))
