"""CSV files, as spreadsheet programs read them."""

import csv
from io import StringIO

import pytest

from ticketing.web.sheets import original, written

TEXTS = [
    *("=1+1", "+49 170 1", "-5", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '"=1', "'=1", "''+1"),
    *("\uff1d1", "\uff0b1", "\uff0d1", "\uff201"),
    *("Doe, PhD", 'a"b', "two\r\nlines", "'quoted'", "Müller", " =1", "", "ada@example.org"),
]


def test_a_text_that_would_be_a_formula_is_none_and_is_read_again_as_it_was() -> None:
    rows = list(csv.reader(StringIO(written([text, 1] for text in TEXTS), newline="")))
    assert [row[1] for row in rows] == ["1"] * len(TEXTS)
    cells = [row[0] for row in rows]
    assert [original(cell) for cell in cells] == TEXTS
    for cell in cells:
        assert (
            not cell.lstrip("\"'").startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
            or cell[0] == "'"
        )


@pytest.mark.parametrize("text", ["=1", "+49", "-5", "@a", "\t1", "\uff1d1"])
def test_only_the_first_character_is_added(text: str) -> None:
    assert written([[text]]).removesuffix("\r\n").replace('"', "") == f"'{text}"
