"""Folding: forms of names and codes in which case and Unicode variants do not matter."""

import re
import unicodedata
from typing import Final

ACCENTS: Final = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
"""Accents. Vowels are not included, although some scripts write them as marks."""


def folded_code(text: str) -> str:
    """Return the form in which codes are compared: without white space, and without case.

    Case is folded (Unicode case folding), and canonical variants of a character are one (NFC).
    """
    plain = unicodedata.normalize("NFC", "".join(text.split())).casefold()
    return unicodedata.normalize("NFC", plain)


def folded(text: str) -> str:
    """Return the folded form of a name or of a search text.

    Unicode variants of a character become one (NFKD), accents are removed, case is folded (Unicode
    case folding), and each run of white space becomes one space.
    """
    if text.isascii():  # The same, ten times as fast.
        return " ".join(text.lower().split())
    plain = ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold()
    return " ".join(unicodedata.normalize("NFC", plain).split())
