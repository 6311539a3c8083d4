"""Addresses that name the model: `/models/qi/rerank` is `/rerank` with the model `qi`.

So every client that takes a base URL works where several models are served. The path is rewritten before anything
else looks at it, so limits, keys, metrics and logs hold for these addresses as for the plain ones.
"""

import re

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX = "/models/{model}"
RERANK_PATHS = ("/rerank", "/v1/rerank", "/v2/rerank", "/predict")
PREFIXED = re.compile(rf"/models/(?P<model>.+?)(?P<path>{'|'.join(RERANK_PATHS)})")


class ModelPrefix:
    """ASGI middleware around `Edge`. The model is in `request.state.path_model`, None without prefix."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, under its plain path where it has a prefix."""
        if scope["type"] == "http":
            found = PREFIXED.fullmatch(scope["path"])
            state = {**scope.get("state", {}), "path_model": found["model"] if found else None}
            scope = {**scope, "state": state, "path": found["path"] if found else scope["path"]}
        await self._app(scope, receive, send)
