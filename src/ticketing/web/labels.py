"""Names that people read: their characters and their length."""

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
BLANK: Final = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\U0001d159")
"""Letters and symbols that are invisible."""


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

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the schema that validates it."""
        text = core_schema.str_schema(strip_whitespace=True)
        return core_schema.no_info_after_validator_function(self._checked, text)

    def __get_pydantic_json_schema__(
        self, _core: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the JSON schema that documents it."""
        # `minLength` and `maxLength` would count the spaces at the ends, which don't count.
        return {
            "type": "string",
            **({} if self.lines else {"pattern": _pattern(self.shortest, self.longest)}),
            "description": f"{self.shortest} to {self.longest} characters, at least one visible."
            " Spaces at the ends are removed.",
            "examples": [self.example],
        }

    def _checked(self, text: str) -> str:
        allowed = "\n\r\t" if self.lines else ""
        if any(unicodedata.category(each) in REFUSED and each not in allowed for each in text):
            raise PydanticCustomError("control_character", "Control characters are not allowed")
        length = len(unicodedata.normalize("NFC", text))
        if length < self.shortest:
            raise PydanticKnownError("string_too_short", {"min_length": self.shortest})
        if length > self.longest:
            raise PydanticKnownError("string_too_long", {"max_length": self.longest})
        if not _is_paired(text):
            raise PydanticCustomError(
                "unpaired_direction", "A change of text direction must end within the name"
            )
        if not any(map(_is_visible, text)):
            raise PydanticCustomError("invisible", "The name needs a visible character")
        return text


def _pattern(shortest: int, longest: int) -> str:
    edge, inside = r"[^\s\u0000-\u001f\u007f-\u009f]", r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029]"
    if shortest == 1:
        return rf"^\s*{edge}({inside}{{0,{longest - 2}}}{edge})?\s*$"
    return rf"^\s*{edge}{inside}{{{shortest - 2},{longest - 2}}}{edge}\s*$"


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNPS" and character not in BLANK


def _is_paired(text: str) -> bool:
    expected: list[str] = []
    for character in text:
        if character in OPENING:
            expected.append(OPENING[character])
        elif character in CLOSING and (not expected or expected.pop() != character):
            return False
    return not expected
