"""The public keys of the codes of tickets."""

import base64
from typing import Literal

from fastapi import Request
from pydantic import Field

from ticketing.door.codes import raw
from ticketing.door.part import Door
from ticketing.door.repositories.keys import Keys
from ticketing.identity.permissions import Action
from ticketing.web.fields import Out
from ticketing.web.part import of
from ticketing.web.routes import Routes

routes = Routes("/.well-known/ticketing", "tickets")


class TicketKeyOut(Out):
    """A public key (RFC 8037). `kid` is the key id of the codes that it verifies, in decimal."""

    kty: Literal["OKP"] = Field(examples=["OKP"])
    crv: Literal["Ed25519"] = Field(examples=["Ed25519"])
    use: Literal["sig"] = Field(examples=["sig"])
    kid: str = Field(examples=["1"])
    x: str = Field(examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])


class TicketKeysOut(Out):
    """The public keys (RFC 7517). Each of them verifies."""

    keys: list[TicketKeyOut]


def key_set(keys: Keys) -> TicketKeysOut:
    """Return the public keys as a JSON Web Key Set."""
    return TicketKeysOut(
        keys=[
            TicketKeyOut(
                kty="OKP",
                crv="Ed25519",
                use="sig",
                kid=str(number),
                x=base64.urlsafe_b64encode(raw(key)).rstrip(b"=").decode(),
            )
            for number, key in sorted(keys.public.items())
        ]
    )


@routes.get(
    "/keys.json",
    Action.LIST_TICKET_KEYS,
    "List the public keys of the codes of tickets",
    counted=None,
    errors=(),
)
async def keys(request: Request) -> TicketKeysOut:
    """List the keys that verify codes of tickets: also the next one, before it signs.

    Read them again at least every few minutes, and whenever a code has an unknown key.
    """
    return key_set(await of(request, Door).keys.current())
