"""What a handler knows of its request beside the body: the service, the request's context and its route."""

from starlette.requests import HTTPConnection
from starlette.types import Scope

from service.api.policy import Target
from service.lifecycle.service import Service
from service.scoring.request_context import RequestContext

CONTEXT, TARGET = "relevance.context", "relevance.target"


def put(scope: Scope, context: RequestContext, target: Target) -> Scope:
    """Return the ASGI scope of a request with its context and its route."""
    return {**scope, CONTEXT: context, TARGET: target}


def context_of(request: HTTPConnection) -> RequestContext:
    """Return the context that the middleware made for a request."""
    context: RequestContext = request.scope[CONTEXT]
    return context


def target_of(request: HTTPConnection) -> Target:
    """Return the route of a request."""
    target: Target = request.scope[TARGET]
    return target


def service_of(request: HTTPConnection) -> Service:
    """Return the service that a request's app belongs to."""
    service: Service = request.app.state.service
    return service
