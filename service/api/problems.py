"""One table from error class to HTTP status, and every error as problem details (RFC 9457)."""

import difflib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from relevance.errors import RelevanceError
from service import errors
from service.api.context import context_of, target_of
from service.api.policy import ProblemKeys
from service.api.schemas import SCORE_FIELDS

log = logging.getLogger(__name__)

FAULTS_SHOWN = 10
PATH_CHARS = 200  # of a path that an error repeats


@dataclass(frozen=True, slots=True)
class Kind:
    """The status, reason and title of a class of errors."""

    status: int
    reason: str
    title: str


KINDS: Mapping[type[RelevanceError], Kind] = {
    errors.MalformedJsonError: Kind(400, "malformed_json", "The body is not JSON"),
    errors.UnauthorizedError: Kind(401, "unauthorized", "An API key is needed"),
    errors.BulkOffError: Kind(403, "bulk_off", "Bulk scoring is switched off"),
    errors.FeedbackOffError: Kind(403, "feedback_off", "The feedback log is switched off"),
    errors.ReportsOffError: Kind(403, "reports_off", "Reports are not sent without API keys"),
    errors.ForbiddenError: Kind(403, "forbidden", "The API key does not have the scope"),
    errors.UnknownReportError: Kind(404, "unknown_report", "No loaded model has this report"),
    errors.UnknownTaskError: Kind(404, "unknown_task", "The task is not served here"),
    errors.TooSlowError: Kind(408, "too_slow", "The caller sends or reads too slowly"),
    errors.TooLargeError: Kind(413, "too_large", "The request is over a limit"),
    errors.MediaTypeError: Kind(415, "media_type", "The body's type or coding is not accepted"),
    errors.InvalidRequestError: Kind(422, "invalid_request", "The request is not valid"),
    errors.KeyRateError: Kind(429, "key_rate", "The API key sends too many requests a second"),
    errors.KeyConcurrencyError: Kind(429, "key_concurrency", "The API key has too many requests in progress"),
    errors.OverloadedError: Kind(429, "overloaded", "The queue is full"),
    errors.TooManyRequestsError: Kind(429, "too_many_requests", "Too many requests are in progress"),
    errors.ClientGoneError: Kind(499, "client_gone", "The caller closed the connection"),
    errors.ScoringError: Kind(500, "scoring_failed", "The model run failed"),
    errors.ModelRetiredError: Kind(503, "model_retired", "The model was replaced"),
    errors.UnavailableError: Kind(503, "not_ready", "The service is not ready"),
    errors.DeadlineError: Kind(504, "deadline", "The deadline has passed, or cannot be met"),
}
ADMIN_KINDS: Mapping[type[RelevanceError], Kind] = {  # only the admin interface raises these
    errors.ConflictError: Kind(409, "conflict", "The models cannot be changed now"),
    errors.BundleRefusedError: Kind(422, "bundle_refused", "The bundle is refused and nothing has changed"),
}
BUG = Kind(500, "internal", "The service has a fault")
DRAINING = Kind(503, "draining", "The service is shutting down")
HTTP_KINDS = {
    404: Kind(404, "unknown_path", "No route has this path"),
    405: Kind(405, "method", "The path does not take this method"),
}
STATUSES = sorted({kind.status for kind in (*KINDS.values(), *HTTP_KINDS.values(), BUG, DRAINING)})
REASONS = sorted({kind.reason for kind in (*KINDS.values(), *HTTP_KINDS.values(), BUG, DRAINING)})

PROBLEMS: dict[int | str, dict[str, Any]] = {  # what the OpenAPI page says of each status
    kind.status: {
        "description": kind.title,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for kind in KINDS.values()
    if kind.status != 499
}
TEI_TYPES = {429: "Overloaded", 500: "Backend", 503: "Unhealthy", 504: "Backend"}  # all others: "Validation"


def problem(
    request: Request,
    kind: Kind,
    detail: str,
    headers: Mapping[str, str] | None = None,
    further: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """Return an error as an `application/problem+json` answer, and note its reason for metrics and logs.

    `further` are keys beside those of RFC 9457.
    """
    context = context_of(request)
    context.record.reason = kind.reason
    body: dict[str, Any] = {
        "type": f"urn:relevance:problem:{kind.reason}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "reason": kind.reason,
        "request_id": context.request_id,
    } | _vendor_keys(target_of(request).policy.problem_keys, kind, detail)
    body |= further
    return Response(json.dumps(body), kind.status, headers, media_type="application/problem+json")


def _vendor_keys(keys: ProblemKeys, kind: Kind, detail: str) -> dict[str, str]:
    """Return the keys under which clients of a route's vendor look for an error."""
    if keys is ProblemKeys.COHERE:
        return {"message": detail}
    if keys is ProblemKeys.KSERVE:
        return {"error": detail}
    if keys is ProblemKeys.TEI:
        return {"error": detail, "error_type": TEI_TYPES.get(kind.status, "Validation")}
    return {}


def handle_problems(app: FastAPI) -> None:
    """Make an app answer all errors as problem details."""
    app.add_exception_handler(RelevanceError, on_relevance_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)


async def on_relevance_error(
    request: Request, error: Exception, further: Mapping[str, Any] = MappingProxyType({})
) -> Response:
    """Answer an error of the table. A RelevanceError that is not in it is a fault of the service."""
    kind = (KINDS | ADMIN_KINDS).get(type(error), BUG)  # type: ignore[operator]
    if kind is BUG:
        log.error("unexpected error", exc_info=error, extra={"request_id": context_of(request).request_id})
    wait = error.retry_after_seconds if isinstance(error, errors.OverloadedError | errors.UnavailableError) else None
    headers = {"Retry-After": str(wait)} if wait else {}
    if isinstance(error, errors.UnauthorizedError):
        headers["WWW-Authenticate"] = 'Bearer realm="relevance"'
    return problem(request, kind, str(error), headers, further)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what the framework itself refuses: unknown paths and methods, bodies that are not text."""
    if not isinstance(error, HTTPException):
        raise error
    kind = HTTP_KINDS.get(error.status_code, Kind(error.status_code, "http", str(error.detail)))
    detail = f"{request.method} {request.url.path[:PATH_CHARS]}: {error.detail}"
    return problem(request, kind, detail, error.headers)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Answer a body or a parameter that is not valid. Of a list, only the first wrong element is named."""
    if not isinstance(error, RequestValidationError):
        raise error
    found = error.errors()
    faults = [_fault(each) for each in found[:FAULTS_SHOWN]]
    more = f"; and {len(found) - FAULTS_SHOWN} more" if len(found) > FAULTS_SHOWN else ""
    detail = "; ".join(f"{fault['where']}: {fault['message']}" for fault in faults) + more
    return await on_relevance_error(request, errors.InvalidRequestError(detail), {"errors": faults})


def _fault(fault: dict[str, Any]) -> dict[str, str]:
    """Return the place of a fault and what was expected. The value is left out: it may be long, and it is user text."""
    place = [str(part)[:100] for part in fault["loc"] if part != "body"]
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        alike = difflib.get_close_matches(place[-1], SCORE_FIELDS, 1)
        message = "unknown key" + (f"; did you mean `{alike[0]}`?" if alike else "")
    return {"where": ".".join(place) or "body", "message": message}
