"""The Idempotency-Key of routes, and stored responses as the framework sends them."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import Header
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

from ticketing.web.keyed import (
    KEY,
    KeyedRequest,
    Rendered,
    Replayed,
    UnderWay,
    keyed_request,
    nothing,
    owner_of,
    rendered,
)

__all__ = [
    "IdempotencyKey",
    "KeyedRequest",
    "Rendered",
    "Replayed",
    "UnderWay",
    "as_response",
    "keyed_request",
    "nothing",
    "owner_of",
    "rendered",
]

IdempotencyKey = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias="Idempotency-Key",
        description="A new key for each new request. A request that is resent with the same key and"
        " body has no second effect and returns the first response again.",
        # Documented but not checked here, because `keyed_request` raises its own error.
        json_schema_extra={"pattern": f"^({KEY.pattern})$", "examples": ["8e03978e-40d5-43dd"]},
    ),
]


def as_response(answer: Rendered, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response for the framework, with these headers too."""
    more = {} if answer.location is None else {"Location": answer.location}
    if answer.etag is not None:
        more["ETag"] = answer.etag
    media_type = "application/json" if answer.body else None
    return Response(answer.body, answer.status, {**more, **(headers or {})}, media_type)
