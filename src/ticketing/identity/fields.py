"""Types of usernames and passwords, and of what is known of a customer."""

from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticKnownError

from ticketing.identity.passwords import MIN_PASSWORD, normal
from ticketing.web.fields import In, Text
from ticketing.web.labels import Label


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

ExternalId = Annotated[str, Label(1, 200, "customer-4711", exact=True)]
CustomerName = Annotated[str, Label(1, 200, "Ada Lovelace")]
# Whether a mailbox exists can't be seen. Scripts other than Latin are allowed (RFC 6531).
_PART: Final = r"[^\s@\u0000-\u001f\u007f-\u009f]+"
Email = Annotated[str, Label(3, 254, "ada@example.org", form=f"{_PART}@{_PART}")]


class CustomerRef(In):
    """A customer of the event's owner, by the id in the owner's own system."""

    external_id: ExternalId


class CustomerIn(CustomerRef):
    """A customer, who is made if this `externalId` is new.

    A name or an e-mail address that is given replaces the earlier one.
    """

    name: CustomerName | None = None
    email: Email | None = None
