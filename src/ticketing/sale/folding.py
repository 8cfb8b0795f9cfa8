"""How names are compared in a search: without case, accents, and differences of spelling."""

import re
import unicodedata
from typing import Final

ACCENTS: Final = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+")
"""Marks that are put on letters; not the vowels of scripts that write them as marks."""


def folded(text: str) -> str:
    """Return the form in which a name and what is looked for in it are compared.

    Compatible spellings (NFKD) become one, accents go, letters lose their case (Unicode case
    folding), and every run of blanks is one.
    """
    plain = ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold()
    return " ".join(unicodedata.normalize("NFC", plain).split())
