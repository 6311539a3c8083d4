"""The route of scoring by the Open Inference Protocol: JSON, and behind it the bytes of binary tensors, if any.

The header `Inference-Header-Content-Length` says where the JSON ends. Triton's client declares no type.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from service.api.body.json_route import JsonRequest, parsed
from service.api.body.outline import VALUES_A_CANDIDATE, Outline
from service.api.body.parsing import check_json
from service.api.context import service_of
from service.errors import InvalidRequestError, MediaTypeError

HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY_TYPE = "application/octet-stream"
MOST_DIGITS = 18  # of a length; `int` refuses thousands of them


class InferRequest(JsonRequest):
    """A request whose JSON has been parsed; `binary` are the bytes behind it."""

    def __init__(self, request: Request, value: Any, binary: bytes) -> None:
        super().__init__(request, True, value)
        others = [(name, said) for name, said in request.scope["headers"] if name != b"content-type"]
        self.scope = dict(request.scope) | {"headers": [*others, (b"content-type", b"application/json")]}
        self.binary = binary


class InferRoute(APIRoute):
    """A route that divides its body before the framework reads it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of a request."""
        handle = super().get_route_handler()

        async def divide_and_handle(request: Request) -> Response:
            service = service_of(request)
            if request.headers.get("content-type", BINARY_TYPE) != BINARY_TYPE:
                _check_type(request)
            head, binary = _divided(request, await request.body())
            Outline(VALUES_A_CANDIDATE * service.settings.max_candidates).add(head)  # before it is parsed
            return await handle(InferRequest(request, await parsed([head], service), binary))

        return divide_and_handle


def _check_type(request: Request) -> None:
    try:
        check_json(request)
    except MediaTypeError as error:
        raise MediaTypeError(f"{error} or {BINARY_TYPE}") from None


def _divided(request: Request, body: bytes) -> tuple[bytes, bytes]:
    """Return the JSON and the bytes behind it. Raises InvalidRequestError for a length that does not fit."""
    length = request.headers.get(HEADER_LENGTH)
    if length is None:
        return body, b""
    if not length.isdecimal() or len(length) > MOST_DIGITS or int(length) > len(body):
        fault = f"expected a number, at most the {len(body)} bytes of the body"
        raise InvalidRequestError(f"{HEADER_LENGTH} {length[:100]!r}: {fault}")
    return body[: int(length)], body[int(length) :]
