"""Names that people read: their characters and their length."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

OPENING: Final = {
    "\u202a": "\u202c",
    "\u202b": "\u202c",
    "\u202d": "\u202c",
    "\u202e": "\u202c",
    "\u2066": "\u2069",
    "\u2067": "\u2069",
    "\u2068": "\u2069",
}
"""Characters that change the direction of text, each with its end (UAX #9, section 2)."""
CLOSING: Final = frozenset(OPENING.values())
REFUSED: Final = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode categories: control characters, surrogates, line and paragraph separators."""
BLANK: Final = frozenset(
    "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159"
    + "".join(map(chr, (*range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000))))
)
"""Letters and symbols that are invisible, and what Unicode reserves for more of them."""
EDGE: Final = r"[^\s\u0000-\u001f\u007f-\u009f]"
INSIDE: Final = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]"
"""Patterns of a character at the ends, and of any other."""


@dataclass(frozen=True, slots=True)
class Label:
    """The type of a name with a length in NFC characters: `Annotated[str, Label(3, 100, "...")]`.

    Spaces at its ends are removed; the rest is kept as it was sent. It has a visible character, no
    control character or line separator, and no change of text direction beyond its end.
    """

    shortest: int
    longest: int
    example: str
    lines: bool = False
    """Whether it may have several lines."""
    exact: bool = False
    """Whether it is kept with the spaces at its ends, because it is compared byte for byte."""
    form: str = ""
    """The pattern of its form, if it has one, which no space at its ends matches."""

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the schema that validates it."""
        text = core_schema.str_schema(strip_whitespace=not self.exact)
        return core_schema.no_info_after_validator_function(self._checked, text)

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the JSON schema that documents it."""
        # `minLength` and `maxLength` would count the spaces at the ends, which don't count.
        spaces = "" if self.exact else " Spaces at the ends are removed."
        return {
            "type": "string",
            **({} if self.lines else {"pattern": self._pattern()}),
            "description": f"{self.shortest} to {self.longest} characters, at least one visible."
            + spaces,
            "examples": [self.example],
        }

    def _pattern(self) -> str:
        if self.exact:
            return f"^{INSIDE}{{{self.shortest},{self.longest}}}$"
        if self.form:
            return rf"^\s*{self.form}\s*$"
        if self.shortest == 1:
            return rf"^\s*{EDGE}({INSIDE}{{0,{self.longest - 2}}}{EDGE})?\s*$"
        return rf"^\s*{EDGE}{INSIDE}{{{self.shortest - 2},{self.longest - 2}}}{EDGE}\s*$"

    def _checked(self, text: str) -> str:
        # Most are plain, and a booking with a customer has three of them.
        is_plain = text.isascii() and text.isprintable()
        allowed = "\n\r\t" if self.lines else ""
        if not is_plain and any(
            unicodedata.category(each) in REFUSED and each not in allowed for each in text
        ):
            raise PydanticCustomError("control_character", "Control characters are not allowed")
        length = len(text if is_plain else unicodedata.normalize("NFC", text))
        if length < self.shortest:
            raise PydanticKnownError("string_too_short", {"min_length": self.shortest})
        if length > self.longest:
            raise PydanticKnownError("string_too_long", {"max_length": self.longest})
        if not is_plain and not _is_paired(text):
            raise PydanticCustomError(
                "unpaired_direction", "A change of text direction must end within the name"
            )
        if not any(map(_is_visible, text)):
            raise PydanticCustomError("invisible", "The name needs a visible character")
        if self.form and not re.fullmatch(self.form, text):
            raise PydanticKnownError("string_pattern_mismatch", {"pattern": self.form})
        return text


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    # What this version of Unicode does not know yet may be a letter or a symbol.
    return (category[0] in "LNPS" or category in {"Cn", "Co"}) and character not in BLANK


def _is_paired(text: str) -> bool:
    expected: list[str] = []
    for character in text:
        if character in OPENING:
            expected.append(OPENING[character])
        elif character in CLOSING and (not expected or expected.pop() != character):
            return False
    return not expected
