"""Routes that take JSON. The body is parsed within limits; a large one is parsed in a thread."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from service.api.body.parsing import check_json
from service.api.context import service_of
from service.errors import InvalidRequestError, MalformedJsonError, TooLargeError
from service.lifecycle.service import Service

LARGE_BYTES = 64 * 1024  # parsed within a millisecond
MOST_KEYS = 256  # of one object: an unknown key costs far more than its bytes
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonRequest(Request):
    """A request whose JSON has been parsed; its bytes are no longer kept."""

    def __init__(self, request: Request, has_body: bool, value: Any) -> None:
        super().__init__(request.scope, request.receive)
        self._has_body, self._value = has_body, value

    async def body(self) -> bytes:
        """Return a placeholder where there was a body: the framework only checks whether there was one."""
        return b"{}" if self._has_body else b""

    async def json(self) -> Any:
        """Return the parsed body."""
        return self._value


class JsonRoute(APIRoute):
    """A route that checks its JSON body first: the type, the lengths of lists, and the number of keys."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def parse_and_handle(request: Request) -> Response:
            parts = [piece async for piece in request.stream() if piece]
            if parts:
                check_json(request)
            request = JsonRequest(request, bool(parts), await parsed(parts, service_of(request)))
            return await handle(request)

        return parse_and_handle


async def parsed(parts: list[bytes], service: Service) -> Any:
    """Return the JSON of a body, its sizes checked. Empties `parts`, so that the bytes are freed once parsed."""
    if not parts:
        return None
    if sum(map(len, parts)) <= LARGE_BYTES:
        value = _parse_all(parts)
    else:
        value = await asyncio.get_running_loop().run_in_executor(service.parser, _parse_all, parts)
    check_sizes(value, service.settings.max_candidates)
    return value


def _parse_all(parts: list[bytes]) -> Any:
    return parse(parts.pop() if len(parts) == 1 else b"".join(parts))


def parse(body: bytes) -> Any:
    """Return the JSON value of UTF-8 bytes. Raises MalformedJsonError."""
    try:
        return from_json(body)
    except ValueError:
        pass  # not JSON, or JSON that only the parser below reads: half of a surrogate pair, many levels
    try:
        return json.loads(body.removeprefix(BYTE_ORDER_MARK).decode())
    except json.JSONDecodeError as error:
        raise MalformedJsonError(f"the body is not JSON: {error.msg} at character {error.pos}") from None
    except UnicodeDecodeError as error:
        raise MalformedJsonError(f"the body is not JSON: byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise MalformedJsonError("the body is not readable JSON: it is nested too deeply") from None
    except ValueError:
        raise MalformedJsonError("the body is not readable JSON: a number has too many digits") from None


def check_sizes(value: Any, most: int) -> None:
    """Raise TooLargeError for a list of a request with over `most` elements, InvalidRequestError for too many keys."""
    for name, part in value.items() if isinstance(value, dict) else (("body", value),):
        if isinstance(part, list) and len(part) > most:
            raise TooLargeError(f"{name[:100]}: {len(part)} of them, expected at most {most}")
    objects = [("body", value)]
    while objects:
        name, part = objects.pop()
        if isinstance(part, dict):
            if len(part) > MOST_KEYS:
                raise InvalidRequestError(f"{name[:100]}: {len(part)} keys, expected at most {MOST_KEYS}")
            objects += [pair for pair in part.items() if isinstance(pair[1], dict | list)]
        elif isinstance(part, list):
            objects += [(name, each) for each in part if isinstance(each, dict | list)]
