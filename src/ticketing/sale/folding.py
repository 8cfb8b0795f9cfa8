"""Folding: a form of names in which a search ignores case, accents and Unicode variants."""

import re
import unicodedata
from typing import Final

ACCENTS: Final = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
"""Accents. Vowels are not included, although some scripts write them as marks."""


def folded(text: str) -> str:
    """Return the folded form of a name or of a search text.

    Unicode variants of a character become one (NFKD), accents are removed, case is folded (Unicode
    case folding), and each run of white space becomes one space.
    """
    plain = ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold()
    return " ".join(unicodedata.normalize("NFC", plain).split())
