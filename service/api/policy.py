"""The policy of each route: who may call it, how its body is read, and how it is reported.

A policy is declared on the endpoint, below its path. `RoutePolicies` collects the policies of an app at start and
raises for a route that has none. Knows no models.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.routing import BaseRoute, Route

from service.auth.key_file import Scope
from service.scheduling.job import Priority
from service.settings import Settings

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

SMALL_BODY_BYTES = 64 * 1024  # for routes that score no text: nothing else limits how many of them are in memory
MODEL_PREFIX = "/models/{model}"
OTHER = "other"  # the label of all routes that metrics do not name


class ProblemKeys(StrEnum):
    """The keys beside those of RFC 9457 under which the clients of a vendor look for an error."""

    NONE = "none"
    COHERE = "cohere"
    TEI = "tei"
    KSERVE = "kserve"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a route asks of a request, and how its requests are reported.

    `scope` is what an API key needs where keys are set; None: everybody may call. `scores` is the priority of a route
    that scores text, None for other routes: interactive requests count against `max_requests`, have a deadline and may
    send `max_body_bytes`; bulk requests count against `max_bulk_requests` and are read as a stream; all other bodies
    are limited to SMALL_BODY_BYTES. `named` routes have their own label in metrics. These and open routes log at DEBUG
    unless they score; `traced` ones have spans. The durations of the parts of a `timed` route are in the metrics from
    the start. `model_prefix` routes are also served below `/models/{model}`, which names the model for clients that
    take a base URL only.
    """

    scope: Scope | None
    scores: Priority | None = None
    named: bool = False
    traced: bool = True
    timed: bool = False
    model_prefix: bool = False
    problem_keys: ProblemKeys = ProblemKeys.NONE

    @property
    def quiet(self) -> bool:
        """Whether requests log at DEBUG unless the service failed: probes, lists, the page and its files."""
        return self.scores is None and (self.named or self.scope is None)

    def max_body_bytes(self, settings: Settings, method: str) -> int | None:
        """Return how many bytes a body may have, decompressed; None where the route reads it as a stream."""
        if self.scores is Priority.BULK:
            return None
        return settings.max_body_bytes if self.is_interactive(method) else SMALL_BODY_BYTES

    def is_interactive(self, method: str) -> bool:
        """Return whether a request is scored while its caller waits."""
        return self.scores is Priority.INTERACTIVE and method == "POST"

    def __call__(self, endpoint: Endpoint) -> Endpoint:
        """Declare this policy for an endpoint; used as a decorator below the decorator of the path."""
        endpoint.__policy__ = self  # type: ignore[attr-defined]
        return endpoint


SCORE_KEY = Policy(Scope.SCORE)  # needs a key, scores nothing
PROBE = Policy(None, named=True, traced=False)  # health: open to all, and asked for every few seconds


@dataclass(frozen=True, slots=True)
class Target:
    """The route of a request: its path, its label in metrics, its policy, and the model that the prefix names."""

    path: str
    label: str
    policy: Policy
    model: str | None = None


@dataclass(slots=True)
class RoutePolicies:
    """The policies of the routes of one app. Paths that no route has get the policy `unknown`."""

    unknown: Policy
    _by_path: dict[str, Policy] = field(default_factory=dict)
    _patterns: list[tuple[re.Pattern[str], str, Policy]] = field(default_factory=list)
    _prefixed: re.Pattern[str] = field(init=False)

    @classmethod
    def of(cls, app: FastAPI, unknown: Policy) -> "RoutePolicies":
        """Collect the policies of an app's routes; the framework's own page, the schema, gets `unknown`.

        Raises RuntimeError for a route without a policy.
        """
        found = cls(unknown)
        for route in _flat(app.routes):
            default = unknown if route.path == app.openapi_url else None
            policy: Policy | None = getattr(route.endpoint, "__policy__", default)
            if policy is None:
                raise RuntimeError(f"route {route.path}: no policy; expected a Policy as decorator of its endpoint")
            found.add(route, policy)
        found._prefixed = re.compile(rf"/models/(?P<model>.+?)(?P<path>{'|'.join(found.prefixed) or '(?!)'})")
        return found

    def add(self, route: Route, policy: Policy) -> None:
        """Take in a route. Raises RuntimeError where its path has another policy for another method."""
        if self._by_path.setdefault(route.path, policy) != policy:
            raise RuntimeError(f"route {route.path}: two policies; expected one for all its methods")
        if route.param_convertors:
            self._patterns.append((route.path_regex, route.path, policy))

    def find(self, path: str) -> Target:
        """Return the route of a request's path."""
        policy = self._by_path.get(path)
        if policy is not None:
            return Target(path, path if policy.named else OTHER, policy)
        if match := self._prefixed.fullmatch(path):
            return Target(match["path"], match["path"], self._by_path[match["path"]], match["model"])
        found = ((template, each) for pattern, template, each in self._patterns if pattern.match(path))
        template, policy = next(found, (OTHER, self.unknown))
        return Target(path, template if policy.named else OTHER, policy)

    @property
    def labels(self) -> list[str]:
        """The labels of all routes in metrics."""
        return [*self._paths(lambda policy: policy.named), OTHER]

    @property
    def scoring(self) -> list[str]:
        """The paths that score."""
        return self._paths(lambda policy: policy.scores is not None)

    @property
    def timed(self) -> list[str]:
        """The paths whose parts are timed from the start."""
        return self._paths(lambda policy: policy.timed)

    @property
    def prefixed(self) -> list[str]:
        """The paths that are also served below MODEL_PREFIX."""
        return self._paths(lambda policy: policy.model_prefix)

    def _paths(self, wanted: Callable[[Policy], bool]) -> list[str]:
        return [path for path, policy in self._by_path.items() if wanted(policy)]


def _flat(routes: Iterable[BaseRoute]) -> Iterator[Route]:
    """Yield routes, also of included routers. Raises RuntimeError for what has no policy, such as a mounted app."""
    for route in routes:
        if isinstance(route, Route):
            yield route
            continue
        inner = getattr(route, "original_router", None)  # recent FastAPI keeps included routers whole
        if inner is None:
            raise RuntimeError(f"route {route!r}: expected a path of a router, which can declare a policy")
        yield from _flat(inner.routes)
