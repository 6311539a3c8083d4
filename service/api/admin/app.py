"""The FastAPI app of the admin interface, and the check that it is safe to open.

It shares the `Service` with the app that scores, reads the same API keys, and needs those of scope `admin`.
"""

from collections.abc import Sequence
from pathlib import Path

from fastapi import FastAPI

from relevance.errors import ConfigError
from relevance.version import project_version
from service.api import health
from service.api.admin import routes
from service.api.admin.local import is_of_this_machine
from service.api.admin.routes import ADMIN_KEY
from service.api.middleware import RequestMiddleware
from service.api.page.routes import page_routers
from service.api.policy import RoutePolicies
from service.api.problems import handle_problems
from service.api.recording import record_admin_request
from service.lifecycle.service import Service
from service.settings import Settings


def create_admin_app(service: Service, roots: Sequence[Path]) -> FastAPI:
    """Return the app of the admin interface, which loads bundles from below the `roots`. It starts nothing itself."""
    app = FastAPI(
        title="relevance admin",
        version=project_version(),
        docs_url=None,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},  # as in service.api.app
    )
    app.router.redirect_slashes = False
    app.state.service, app.state.roots = service, roots
    app.include_router(routes.router)
    for path, endpoint in (("/healthz", health.health), ("/readyz", health.ready), ("/metrics", health.metrics)):
        app.add_api_route(path, endpoint)
    for router in page_routers(service.settings, admin=True):
        app.include_router(router)
    policies = app.state.policies = RoutePolicies.of(app, unknown=ADMIN_KEY)
    app.add_middleware(RequestMiddleware, service=service, policies=policies, record=record_admin_request)
    handle_problems(app)
    return app


def check_admin(settings: Settings) -> None:
    """Raise ConfigError where the admin interface would be open to other machines without API keys."""
    if settings.admin_port is None:
        return
    if settings.api_keys is None and not is_of_this_machine(settings.admin_host):
        raise ConfigError(
            f"admin_host {settings.admin_host}: whoever reaches it could change models; expected 127.0.0.1, or "
            "api_keys with a key of scope admin"
        )
