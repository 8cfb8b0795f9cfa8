"""Types of usernames and passwords."""

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticKnownError

from ticketing.identity.passwords import MIN_PASSWORD, normal
from ticketing.web.fields import Text


def _long_enough(password: str) -> str:
    # Normalising joins some pairs of characters. The hashed form counts, because it is guessed.
    if len(normal(password)) < MIN_PASSWORD:
        raise PydanticKnownError("string_too_short", {"min_length": MIN_PASSWORD})
    return password


Username = Annotated[
    str, Field(min_length=3, max_length=30, pattern=r"^[A-Za-z0-9._-]+$", examples=["ada"])
]
Password = Annotated[
    Text,
    Field(min_length=MIN_PASSWORD, max_length=128, examples=["correct horse battery"]),
    AfterValidator(_long_enough),
]
CurrentPassword = Annotated[Text, Field(max_length=128, examples=["correct horse battery"])]
