"""Tickets as images and as a PDF. It takes processor time, so the routes call it in a thread."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

import segno

if TYPE_CHECKING:
    from reportlab.pdfgen.canvas import Canvas

Paper: TypeAlias = Literal["a4", "phone"]

FONT: Final = "DejaVuSans"
FONT_FILE: Final = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
CHINESE: Final = "STSong-Light"
JAPANESE: Final = "HeiseiMin-W3"
KOREAN: Final = "HYSMyeongJo-Medium"
LETTERS: Final = {CHINESE: "gbk", JAPANESE: "cp932", KOREAN: "cp949"}
"""Fonts that every viewer of PDFs replaces by one of its own, and the encodings that have the same
letters."""
KANA: Final = re.compile("[\u3041-\u30ff]")
HANGUL: Final = re.compile("[\uac00-\ud7a3]")
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
    fonts: Sequence[str]
    """Those for letters that ours has not, in the order in which they are tried."""


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
    direction in which it is read. For Chinese, Japanese and Korean the viewer's own fonts are used.
    Others are printed as boxes, and the code is always readable.
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
def _register() -> frozenset[int]:
    """Make the fonts known, and return the letters that ours has."""
    from reportlab.pdfbase import pdfmetrics  # noqa: PLC0415
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont  # noqa: PLC0415
    from reportlab.pdfbase.ttfonts import TTFont  # noqa: PLC0415

    ours = TTFont(FONT, str(FONT_FILE))
    pdfmetrics.registerFont(ours)
    for name in LETTERS:
        pdfmetrics.registerFont(UnicodeCIDFont(name))
    return frozenset(ours.face.charToGlyph)


def laid_out(sheet: Sheet, room: float) -> list[Line]:
    """Return the lines of the sheet that fit into `room`."""
    from arabic_reshaper import reshape  # noqa: PLC0415
    from bidi.algorithm import get_base_level, get_display  # noqa: PLC0415

    texts = [(sheet.heading, 18.0), *((line, 11.0) for line in sheet.lines)]
    return [
        Line(get_display(line, base_dir="R" if leftward else "L"), size, leftward, fonts)
        for text, size in ((_ordered(text), size) for text, size in texts)
        for leftward, fonts in [(get_base_level(text) == 1, _fonts(text))]
        # Letters are joined before lines are broken, because that changes their width.
        for line in _wrapped(reshape(text), size, room, fonts)
    ]


def _fonts(text: str) -> Sequence[str]:
    """Return the fonts for letters that ours has not. All have Chinese ones, of their language."""
    first = CHINESE
    if KANA.search(text):
        first = JAPANESE
    elif HANGUL.search(text):
        first = KOREAN
    return sorted(LETTERS, key=lambda name: name != first)


def runs(text: str, fonts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pieces of the text, each with the font that has its letters."""
    ours = _register()

    def font(letter: str) -> str:
        if ord(letter) in ours:
            return FONT
        return next((name for name in fonts if _has(name, letter)), FONT)

    return [(name, "".join(letters)) for name, letters in groupby(text, key=font)]


def _has(font: str, letter: str) -> bool:
    try:
        letter.encode(LETTERS[font])
    except UnicodeEncodeError:
        return False
    return True


def _width(text: str, size: float, fonts: Sequence[str]) -> float:
    from reportlab.pdfbase.pdfmetrics import stringWidth  # noqa: PLC0415

    widths: list[float] = [stringWidth(piece, font, size) for font, piece in runs(text, fonts)]
    return sum(widths)


def _ordered(text: str) -> str:
    """Return the text without what the order of letters has no rule for: isolates, and new letters.

    The font has none of them.
    """
    # The fonts have whole letters, no parts of them.
    composed = unicodedata.normalize("NFC", text)
    kinds = ((each, unicodedata.bidirectional(each)) for each in composed)
    return "".join(each if kind else "\ufffd" for each, kind in kinds if kind not in ISOLATES)


def _draw(
    canvas: "Canvas", code: str, lines: Sequence[Line], sides: tuple[float, float], top: float
) -> None:
    left, right = sides
    for line in lines:
        top -= line.size * LINE
        across = left
        if line.is_leftward:
            across = right - _width(line.text, line.size, line.fonts)
        for font, piece in runs(line.text, line.fonts):
            canvas.setFont(font, line.size)
            canvas.drawString(across, top, piece)
            across += _width(piece, line.size, line.fonts)
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


def _wrapped(text: str, size: float, room: float, fonts: Sequence[str]) -> list[str]:
    """Return the text in lines that fit. A word that is wider than a line is broken."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if _width(longer, size, fonts) <= room:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for character in word:
            if _width(lines[-1] + character, size, fonts) > room:
                lines.append("")
            lines[-1] += character
    return lines
