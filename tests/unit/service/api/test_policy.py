"""Policies of routes: a route without one stops the start, and each path finds its own."""

import pytest
from fastapi import APIRouter, FastAPI

from service.api.admin.app import create_admin_app
from service.api.app import create_app
from service.api.policy import OTHER, PROBE, SCORE_KEY, SMALL_BODY_BYTES, Policy, RoutePolicies
from service.auth.key_file import Scope
from service.scheduling.job import Priority
from service.settings import Settings

SETTINGS = Settings()
INTERACTIVE = ["/v1/score", "/v2/rerank", "/v1/rerank", "/rerank", "/predict"]
INFER = ["/v2/models/{name}/infer", "/v2/models/{name}/versions/{model_version}/infer"]


@pytest.fixture
def app():
    return create_app(SETTINGS, {})


async def endpoint():
    return {}


async def declared():
    return {}


SCORE_KEY(declared)


def test_route_without_a_policy_stops_the_start():
    router = APIRouter()
    router.get("/new")(endpoint)
    app = FastAPI(docs_url=None, redoc_url=None)  # as the service's: its own /docs has a policy
    app.include_router(router)
    with pytest.raises(RuntimeError, match="route /new: no policy"):
        RoutePolicies.of(app, SCORE_KEY)


def test_route_of_the_app_itself_needs_a_policy_too(app):
    app.get("/new")(endpoint)
    with pytest.raises(RuntimeError, match="route /new: no policy"):
        RoutePolicies.of(app, SCORE_KEY)


def test_app_that_is_mounted_stops_the_start():
    app = FastAPI(docs_url=None, redoc_url=None)
    app.mount("/inner", FastAPI())
    with pytest.raises(RuntimeError, match="expected a path of a router"):
        RoutePolicies.of(app, SCORE_KEY)


def test_two_policies_for_one_path_stop_the_start():
    @PROBE
    async def other():
        return {}

    app = FastAPI(docs_url=None, redoc_url=None)
    app.get("/new")(declared)
    app.post("/new")(other)
    with pytest.raises(RuntimeError, match="route /new: two policies"):
        RoutePolicies.of(app, SCORE_KEY)


def test_scoring_routes_and_no_others_take_large_bodies(app):
    policies = app.state.policies
    limits = {path: policies.find(path).policy.max_body_bytes(SETTINGS, "POST") for path in app.openapi()["paths"]}
    large = {path for path, limit in limits.items() if limit == SETTINGS.max_body_bytes}
    assert large == {*INTERACTIVE, *INFER, *[f"/models/{{model}}{path}" for path in INTERACTIVE[1:]]}
    assert [path for path, limit in limits.items() if limit is None] == ["/v1/score/bulk"]
    assert {limits[path] for path in {*limits} - large - {"/v1/score/bulk"}} == {SMALL_BODY_BYTES}


def test_only_a_post_to_a_scoring_route_is_scored(app):
    policy = app.state.policies.find("/v1/score").policy
    assert policy.max_body_bytes(SETTINGS, "GET") == SMALL_BODY_BYTES
    assert policy.scores is Priority.INTERACTIVE


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"])
def test_health_is_open_to_all(app, path):
    assert app.state.policies.find(path).policy.scope is None


@pytest.mark.parametrize("path", ["/", "/docs", "/page/config", "/page/js/main.js", "/page/vendor/uplot.js"])
def test_page_is_open_to_all_and_fills_no_log(app, path):
    policy = app.state.policies.find(path).policy
    assert policy.scope is None
    assert policy.quiet
    assert not app.state.policies.find("/v1/score").policy.quiet
    assert not app.state.policies.find("/openapi.json").policy.quiet


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/models/qc", "/v1/models/qc", "/openapi.json", "/nothing", "/models/qi/v1/score"]
)
def test_other_paths_need_a_score_key_and_share_a_label(app, path):
    target = app.state.policies.find(path)
    assert (target.policy.scope, target.label, target.path) == (Scope.SCORE, OTHER, path)


@pytest.mark.parametrize("path", ["/v1/admin/models", "/v1/admin/models/qc/rollback", "/nothing", "/openapi.json"])
def test_admin_paths_need_an_admin_key(app, path):
    policies = RoutePolicies.of(create_admin_app(app.state.service, []), Policy(Scope.ADMIN))
    assert policies.find(path).policy.scope is Scope.ADMIN


def test_prefix_names_the_model(app):
    target = app.state.policies.find("/models/a/b/v1/rerank")
    assert (target.path, target.label, target.model) == ("/v1/rerank", "/v1/rerank", "a/b")
