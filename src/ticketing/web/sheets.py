"""CSV files (RFC 4180), as spreadsheet programs read them."""

import csv
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from io import StringIO
from typing import Final

CSV: Final = "text/csv; charset=utf-8"
BOM: Final = "\ufeff"
FORMULA: Final = re.compile("[\"']*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a text begins that spreadsheet programs take for a formula, also in full-width characters.

Source: owasp.org/www-community/attacks/CSV_Injection.
"""


def written(rows: Iterable[Sequence[object]]) -> str:
    """Return the lines of these rows. A text that would be a formula gets an apostrophe."""
    into = StringIO()
    csv.writer(into).writerows([_cell(value) for value in row] for row in rows)
    return into.getvalue()


def original(cell: str) -> str:
    """Return the text that `written` made a cell of."""
    is_marked = cell.startswith("'") and FORMULA.match(cell, 1) is not None
    return cell[1:] if is_marked else cell


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if FORMULA.match(value) else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return " ".join(map(str, value))
    return str(value)
