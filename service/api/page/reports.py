"""The reports of the loaded models (relevance.model.reports), as the page opens them.

A report shows rows: queries of people, and what the model made of them. So where API keys are set it needs one of
scope admin, and without the page there are none. Nothing in a report can run, and it loads nothing.
"""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from relevance.errors import BundleError
from service.api.context import service_of
from service.api.policy import Policy
from service.auth.key_file import Scope
from service.errors import UnknownReportError

HEADERS = {
    # `sandbox`: no script, no form, no window, an origin of its own. The page's style stands in the page.
    "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

router = APIRouter(prefix="/page/reports", include_in_schema=False)


@router.get("/{task}/{version}/{name}")
@Policy(Scope.ADMIN)
async def report(task: str, version: str, name: str, request: Request) -> Response:
    """Return a report of a loaded model."""
    service = service_of(request)
    rollout = service.rollouts[service.model(task).task]
    model = next((each for each in rollout.loaded if each.manifest.version == version), None)
    if model is None:
        raise UnknownReportError(f"version {version[:100]!r}: no loaded model of task {task!r} has it")
    known = model.manifest.reports
    if name not in known:
        expected = f"one of {', '.join(known)}" if known else "none, its bundle has no reports"
        raise UnknownReportError(f"report {name[:100]!r} of {model.manifest.name} {version}: expected {expected}")
    try:
        content = await asyncio.to_thread(model.bundle.report, name)
    except BundleError as error:
        raise UnknownReportError(f"{error}; load the bundle again") from None
    return Response(content, headers=HEADERS, media_type="text/html; charset=utf-8")
