"""The routes of the page. They are open to all: its files hold nothing of the models, and it sends the key itself.

`/page/config` tells the page what it cannot know: for what a key is needed, whether this is the admin interface,
whether reports are sent, and whether more models will be there soon.
"""

import asyncio
import re
from collections.abc import Mapping

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.api.context import service_of
from service.api.page import reports
from service.api.page.files import PageFile, page_files
from service.api.policy import Policy
from service.auth.key_file import Scope
from service.settings import Settings

GZIP = re.compile(r"gzip\s*(;\s*q=(?!0(\.0*)?$)[01](\.\d*)?)?", re.IGNORECASE)
OPEN = Policy(None, traced=False)
FOLDER = "/page"
HEADERS = {
    # No inline script or style, nothing from another host, no text that becomes HTML or script unchecked.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # a browser keeps the files and asks whether they have changed
    "Vary": "Accept-Encoding",
}
# A frame has the policy of the page around it, and the style of a report stands in the report.
AROUND_REPORT = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class KeysNeeded(BaseModel):
    """For which routes this interface needs a key."""

    score: bool
    metrics: bool
    admin: bool


class PageConfig(BaseModel):
    """What the page must know before its first request."""

    keys: KeysNeeded
    admin: bool = Field(description="whether this is the admin interface, which changes models")
    reports: bool = Field(description="whether reports are sent: to keys of scope admin, or to all where none are set")
    loading: bool = Field(description="whether bundles given at start are still being loaded and tested")


def page_routers(settings: Settings, *, admin: bool) -> list[APIRouter]:
    """Return the routers of the page; where it is turned off, only that of the files, which `/docs` needs."""
    whole = [_home_router(), reports.router] if settings.page else []
    return [*whole, _files_router(admin=admin)]  # its pattern takes what the others leave


def _home_router() -> APIRouter:
    """Return the routes of the page itself, `/`, and of the page around a report, `/report`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    @OPEN
    async def home(request: Request) -> Response:
        """Return the page."""
        return _answer(request, (await _files())["index.html"])

    @router.get("/report")
    @OPEN
    async def report(request: Request) -> Response:
        """Return the page that fetches a report, with the key of the tab, and shows it in a frame."""
        return _answer(request, (await _files())["report.html"], HEADERS | {"Content-Security-Policy": AROUND_REPORT})

    return router


def docs_router() -> APIRouter:
    """Return the route of the interactive OpenAPI page, `/docs`."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    @OPEN
    async def docs(request: Request) -> Response:
        """Return the interactive OpenAPI page."""
        return _answer(request, (await _files())["docs.html"])

    return router


def _files_router(*, admin: bool) -> APIRouter:
    """Return the routes of what both pages need: their files, and what they must know of this interface."""
    router = APIRouter(prefix=FOLDER, include_in_schema=False)

    @router.get("/config")
    @OPEN
    async def config(request: Request) -> PageConfig:
        """Say for what a key is needed here."""
        service = service_of(request)
        keys = service.keys
        needed = {scope.value: keys is not None and keys.needed(scope) is not None for scope in Scope}
        sent = reports.reports_are_sent(service.settings)
        loading = not service.settled.is_set()
        return PageConfig(keys=KeysNeeded(**needed), admin=admin, reports=sent, loading=loading)

    @router.get("/{path:path}")
    @OPEN
    async def file(path: str, request: Request) -> Response:
        """Return a file of a page."""
        found = (await _files()).get(path)
        if found is None:
            raise HTTPException(404, "no such file of the page")
        return _answer(request, found)

    return router


async def _files() -> Mapping[str, PageFile]:
    """Return the files of the pages. A thread reads them: the first time, they are compressed too, in some 100 ms."""
    return await asyncio.to_thread(page_files)


def _answer(request: Request, file: PageFile, headers: Mapping[str, str] = HEADERS) -> Response:
    """Return a file, compressed where the browser takes that; 304 where it has this version already."""
    headers = {**headers, "ETag": file.etag}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if not _takes_gzip(request.headers.get("accept-encoding", "")):
        return Response(file.content, headers=headers, media_type=file.media_type)
    packed = headers | {"Content-Encoding": "gzip"}
    return Response(file.compressed, headers=packed, media_type=file.media_type)


def _takes_gzip(accepted: str) -> bool:
    """Return whether Accept-Encoding names gzip, and with no weight of 0 (`gzip;q=0` refuses it)."""
    return any(GZIP.fullmatch(each.strip()) for each in accepted.split(","))
