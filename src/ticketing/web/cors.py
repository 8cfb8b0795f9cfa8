"""Requests from pages of other origins (CORS)."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

from ticketing.errors import OriginRefused
from ticketing.ops import logs
from ticketing.web.asgi import ASGIApp
from ticketing.web.problems import MEDIA_TYPE, document


class Cors(CORSMiddleware):
    """Starlette's CORS middleware, with refusals as problem documents."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the response to a browser's preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code == OriginRefused.status:
            body = document(OriginRefused(), "", logs.request_id.get())
            return Response(body, OriginRefused.status, media_type=MEDIA_TYPE)
        return response


def cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Wrap `app`, so that pages of `origins` may call it."""
    return Cors(
        app,
        allow_origins=origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID"],
        expose_headers=[
            *("Idempotency-Replayed", "Location", "RateLimit", "RateLimit-Policy"),
            *("Retry-After", "X-Request-ID"),
        ],
    )
