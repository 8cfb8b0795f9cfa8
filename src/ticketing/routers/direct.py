"""The route classes; that of a sale has the same API, without FastAPI's general machinery.

Solving dependencies, two exit stacks and parsing JSON into a dict before validating it cost more
than a booking does. A DirectRoute is declared, documented and answered like any other route, but
takes only what is found without solving: a body, the caller, path parameters and the request.
"""

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, get_args

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ticketing.errors import UnsupportedMediaType
from ticketing.routers.dependencies import In, bearer
from ticketing.security import Caller

JSON: Final = b"application/json"


class _JsonRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 - JSON
        # Not the standard library's, which takes UTF-16 and recurses as deep as it is told to.
        return from_json(await self.body())


class StrictRoute(APIRoute):
    """FastAPI's route, which reads the same JSON as a DirectRoute: UTF-8, at most 200 deep."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what serves a request."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_JsonRequest(request.scope, request.receive))

        return strict


class DirectRoute(APIRoute):
    """Serves an endpoint that takes only what is found without solving dependencies.

    That is a body of JSON (a model that is an `In`), the caller (`Authenticated`), the `Request`,
    and parameters of the path. Raises TypeError, when the route is made, for any other.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on as they are
        """Declare the route as APIRoute does."""
        super().__init__(*args, **kwargs)
        self._model: type[In] | None = None
        self._path: dict[str, TypeAdapter[Any]] = {}
        self._wants_caller = self._wants_request = False
        for name, parameter in inspect.signature(self.endpoint).parameters.items():
            wanted = parameter.annotation
            if inspect.isclass(wanted) and issubclass(wanted, In):
                self._model = wanted
            elif get_args(wanted)[:1] == (Caller,):
                self._wants_caller = True
            elif wanted is Request:
                self._wants_request = True
            elif name in self.param_convertors:
                self._path[name] = TypeAdapter(wanted)
            else:
                raise TypeError(f"{self.path}: a DirectRoute can't find `{name}`")
        self.app = self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        given: dict[str, Any] = {}
        if self._wants_request:
            given["request"] = request
        if self._wants_caller:
            given["caller"] = bearer.verify(request)
        for name, adapter in self._path.items():
            text = scope["path_params"][name]
            given[name] = _valid(partial(adapter.validate_python, text), "path", name)
        if self._model is not None:
            if not _is_json(scope):
                raise UnsupportedMediaType
            text = await request.body()
            given["body"] = _valid(partial(self._model.model_validate_json, text), "body")
        answer = await self.endpoint(**given)
        if isinstance(answer, BaseModel):
            answer = Response(
                answer.model_dump_json(by_alias=True),
                self.status_code or 200,
                media_type="application/json",
            )
        await answer(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            kind = value.partition(b";")[0].strip().lower()
            return bool(kind == JSON or (kind[:12] == JSON[:12] and kind.endswith(b"+json")))
    return False


def _valid(validate: Callable[[], Any], *where: str) -> Any:  # noqa: ANN401 - whatever it validates
    try:
        return validate()
    except ValidationError as error:
        failures = error.errors(include_url=False, include_input=False, include_context=False)
        raise RequestValidationError(
            [{**failure, "loc": (*where, *failure["loc"])} for failure in failures]
        ) from None
