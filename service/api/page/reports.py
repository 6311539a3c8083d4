"""The reports of the loaded models (relevance.model.reports), as the page opens them.

A report shows rows: queries of people, and what the model made of them. So it needs an API key of scope admin; without
API keys the operator must have opened the reports to everybody, and without the page there are none. The caller's
address decides nothing: behind a proxy, a published port of a container or a tunnel, everybody looks local, and so
does a web page whose name was pointed to this machine. Nothing in a report can run, and it loads nothing.
"""

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import Response

from relevance.errors import BundleError
from relevance.model.bundle import Bundle
from service.api.context import service_of
from service.api.policy import Policy
from service.auth.key_file import Scope
from service.errors import ReportsOffError, UnknownReportError
from service.lifecycle.rollout import Rollout
from service.settings import Settings

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

OFF = (
    "reports show rows of the data, and no API keys are set; expected api_keys with a key of scope admin, or "
    "open_reports where everybody who reaches the service may read them (docs/security.md)"
)

router = APIRouter(prefix="/page/reports", include_in_schema=False)


@router.get("/{task}/{version}/{name}")
@Policy(Scope.ADMIN)
async def report(task: str, version: str, name: str, request: Request) -> Response:
    """Return a report of a loaded model, or of one of the two models of a loaded cascade."""
    service = service_of(request)
    if not reports_are_sent(service.settings):
        raise ReportsOffError(OFF)
    bundle = _bundle(service.rollouts[service.model(task).task], version)
    if bundle is None:
        raise UnknownReportError(f"version {version[:100]!r}: no loaded model of task {task!r} has it")
    known = bundle.manifest.reports
    if name not in known:
        expected = f"one of {', '.join(known)}" if known else "none, its bundle has no reports"
        raise UnknownReportError(f"report {name[:100]!r} of {bundle.manifest.name} {version}: expected {expected}")
    try:
        content = await asyncio.to_thread(bundle.report, name)
    except BundleError as error:
        raise UnknownReportError(f"{error}; load the bundle again") from None
    return Response(content, headers=HEADERS, media_type="text/html; charset=utf-8")


def reports_are_sent(settings: Settings) -> bool:
    """Return whether reports are sent at all: to keys of scope admin, or to everybody where that was asked for."""
    return settings.api_keys is not None or settings.open_reports


def _bundle(rollout: Rollout, version: str) -> Bundle | None:
    """Return the loaded bundle of a version, which may be that of a stage of a cascade."""
    loaded = (bundle for model in rollout.loaded for bundle in (model.bundle, *model.bundle.stages))
    return next((bundle for bundle in loaded if bundle.manifest.version == version), None)
