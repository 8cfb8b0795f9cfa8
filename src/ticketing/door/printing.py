"""Tickets as images and as a PDF. It takes processor time, so the routes call it in a thread."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import segno

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas

Paper: TypeAlias = Literal["a4", "phone"]

FONT: Final = "DejaVuSans"
FONT_FILE: Final = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
PHONE: Final = 280.0
"""Points. A page as wide as the screen of a phone, and as high as it must be."""
SIDE: Final = 248.0
"""Points of the code, with the white around it."""
LINE: Final = 1.4
"""Height of a line, in heights of its letters."""
ISOLATES: Final = {"LRI", "RLI", "FSI", "PDI"}
"""Invisible characters around text of another direction (UAX 9)."""
QUIET: Final = 4
"""Modules of white around the code (ISO/IEC 18004)."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A ticket to print: its code, a heading, and lines below it."""

    code: str
    heading: str
    lines: Sequence[str]


class Line(NamedTuple):
    """A line to print."""

    text: str
    """In the order from left to right."""
    size: float
    is_leftward: bool
    """Whether it begins at the right."""


def svg(code: str) -> bytes:
    """Return the QR code as an SVG image."""
    out = BytesIO()
    _qr(code).save(out, kind="svg", border=QUIET, scale=8, xmldecl=False)
    return out.getvalue()


def png(code: str) -> bytes:
    """Return the QR code as a PNG image."""
    out = BytesIO()
    _qr(code).save(out, kind="png", border=QUIET, scale=8)
    return out.getvalue()


def pdf(title: str, sheets: Sequence[Sheet], paper: Paper) -> bytes:
    """Return a PDF with a page for each ticket.

    The font has Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian and Georgian letters, each in the
    direction in which it is read. Others are printed as boxes, and the code is always readable.
    """
    # Imported here, so that a worker that prints nothing starts sooner and uses less memory.
    from reportlab.lib.pagesizes import A4  # noqa: PLC0415
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415

    width, height = A4 if paper == "a4" else (PHONE, 0.0)
    margin = 56.0 if paper == "a4" else 16.0
    out = BytesIO()
    canvas = Canvas(out, pageCompression=1)
    canvas.setTitle(title)
    for sheet in sheets:
        lines = laid_out(sheet, width - 2 * margin)
        needed = sum(line.size * LINE for line in lines) + 2 * margin + LINE + SIDE
        canvas.setPageSize((width, max(height, needed)))
        _draw(canvas, sheet.code, lines, (margin, width - margin), max(height, needed) - margin)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def _qr(code: str) -> segno.QRCode:
    return segno.make_qr(code, error="m")


@cache
def _register() -> None:
    from reportlab.pdfbase import pdfmetrics  # noqa: PLC0415
    from reportlab.pdfbase.ttfonts import TTFont  # noqa: PLC0415

    pdfmetrics.registerFont(TTFont(FONT, str(FONT_FILE)))


def laid_out(sheet: Sheet, room: float) -> list[Line]:
    """Return the lines of the sheet that fit into `room`."""
    from arabic_reshaper import reshape  # noqa: PLC0415
    from bidi.algorithm import get_base_level, get_display  # noqa: PLC0415

    _register()
    texts = [(sheet.heading, 18.0), *((line, 11.0) for line in sheet.lines)]
    return [
        Line(get_display(line, base_dir="R" if leftward else "L"), size, leftward)
        for text, size in ((_ordered(text), size) for text, size in texts)
        for leftward in [get_base_level(text) == 1]
        # Letters are joined before lines are broken, because that changes their width.
        for line in _wrapped(reshape(text), size, room)
    ]


def _ordered(text: str) -> str:
    """Return the text without what the order of letters has no rule for: isolates, and new letters.

    The font has none of them.
    """
    kinds = ((each, unicodedata.bidirectional(each)) for each in text)
    return "".join(each if kind else "\ufffd" for each, kind in kinds if kind not in ISOLATES)


def _draw(
    canvas: "Canvas", code: str, lines: Sequence[Line], sides: tuple[float, float], top: float
) -> None:
    left, right = sides
    for line in lines:
        top -= line.size * LINE
        canvas.setFont(FONT, line.size)
        if line.is_leftward:
            canvas.drawRightString(right, top, line.text)
        else:
            canvas.drawString(left, top, line.text)
    _draw_code(canvas, code, left, top - LINE - SIDE, SIDE)


def _draw_code(canvas: "Canvas", code: str, left: float, bottom: float, side: float) -> None:
    rows = list(_qr(code).matrix_iter(border=QUIET))
    module = side / len(rows)
    path = canvas.beginPath()
    for number, row in enumerate(rows):
        start = None
        # A run of dark modules is one rectangle, because viewers show gaps between two.
        for column, dark in enumerate((*row, 0)):
            if dark and start is None:
                start = column
            elif not dark and start is not None:
                y = bottom + side - (number + 1) * module
                path.rect(left + start * module, y, (column - start) * module, module)
                start = None
    canvas.drawPath(path, stroke=0, fill=1)


def _wrapped(text: str, size: float, room: float) -> list[str]:
    """Return the text in lines that fit. A word that is wider than a line is broken."""
    from reportlab.pdfbase.pdfmetrics import stringWidth  # noqa: PLC0415

    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if stringWidth(longer, FONT, size) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if stringWidth(lines[-1] + character, FONT, size) > room:
                lines.append("")
            lines[-1] += character
    return lines
