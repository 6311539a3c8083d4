"""Scoring in the shapes of other rerankers, so that their clients can be pointed here: see `schemas`.

Languages are unknown in these shapes. Which model scores is told by the key `model`, by the parameter `model` of the
address, or by its prefix (see `service.api.model_prefix`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from relevance.tasks import Pair, Task
from service.api.body.json_route import JsonRoute
from service.api.context import context_of, service_of
from service.api.policy import Policy, ProblemKeys
from service.api.problems import PROBLEMS
from service.api.rerank import schemas as shapes
from service.api.rerank.documents import score_documents
from service.api.score_call import choose
from service.auth.key_file import Scope
from service.errors import InvalidRequestError, UnavailableError, UnknownTaskError
from service.lifecycle.service import Service
from service.scheduling.job import Priority
from service.scoring.admission import FieldNames
from service.scoring.served_model import Scored, ServedModel

DOCUMENTS = FieldNames("documents", "query", "documents[{}]")
TEXTS = FieldNames("texts", "query", "texts[{}]")
PAIRS = FieldNames("inputs", "inputs[{}][0]", "inputs[{}][1]")
OBJECTS = FieldNames("inputs", "inputs[{}].text", "inputs[{}].text_pair")
ONLY_CLASS = "LABEL_0"  # what transformers, and so TEI and SageMaker, call the one class of such a model
WARNED = 10
LEVELS_AROUND = 16  # more than an answer has around a document


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a request asks for: the model of a task, or one version of it."""

    task: Task
    version: str | None = None


ModelParameter = Annotated[str | None, Query(description=shapes.MODEL)]

COHERE = Policy(
    Scope.SCORE, scores=Priority.INTERACTIVE, named=True, model_prefix=True, problem_keys=ProblemKeys.COHERE
)
TEI = replace(COHERE, problem_keys=ProblemKeys.TEI)

router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)


@router.post("/v2/rerank", response_model=shapes.CohereResponse)
@COHERE
async def rerank_v2(body: shapes.CohereV2Request, request: Request) -> Response:
    """Rank documents as Cohere's v2 does, best first."""
    model, scored = await _rerank(body, request)
    return _answer(_cohere(body, request, scored, model), model, scored)


@router.post("/v1/rerank", response_model=shapes.V1Response)
@COHERE
async def rerank_v1(body: shapes.V1Request, request: Request) -> Response:
    """Rank documents as Cohere's v1 and Jina do, best first."""
    model, scored = await _rerank(body, request)
    usage = {"prompt_tokens": scored.tokens, "total_tokens": scored.tokens}
    answer = _cohere(body, request, scored, model) | {"model": model.manifest.name, "usage": usage}
    return _answer(answer, model, scored)


@router.post("/rerank", response_model=list[shapes.TeiRank])
@TEI
async def rerank_tei(body: shapes.TeiRerankRequest, request: Request, model: ModelParameter = None) -> Response:
    """Rank texts as text-embeddings-inference does, best first."""
    served = served_model(request, body.model or model)
    texts, names = body.candidates, TEXTS if body.documents is None else DOCUMENTS
    pairs = [Pair(body.query, text) for text in texts]
    scored = await score_documents(request, served, pairs, names, truncate=body.truncate is not False)
    values = _values(scored, bool(body.raw_scores))
    ranks: list[dict[str, Any]] = [
        {"index": place, "score": values[place]} for place in _best_first(scored, served, body.top_n)
    ]
    if body.return_text or body.return_documents:
        ranks = [rank | {"text": texts[rank["index"]]} for rank in ranks]
    return _answer(ranks, served, scored)


@router.post("/predict", response_model=list[shapes.Prediction] | list[list[shapes.Prediction]])
@TEI
async def predict(body: shapes.PredictRequest, request: Request, model: ModelParameter = None) -> Response:
    """Score pairs in their order: a list for each of TEI's pairs, one flat list for OpenSearch's objects."""
    served = served_model(request, body.model or model)
    pairs, names = _predict_pairs(body.inputs)
    scored = await score_documents(request, served, pairs, names, truncate=body.truncate is not False)
    flat = [{"label": ONLY_CLASS, "score": value} for value in _values(scored, bool(body.raw_scores))]
    batch_of_pairs = isinstance(body.inputs, list) and names is PAIRS
    return _answer([[each] for each in flat] if batch_of_pairs else flat, served, scored)


def served_model(request: Request, name: str | None) -> ServedModel:
    """Return the model that the address or `name` (a task, name or version) asks for, else the only one that is served.

    A version is answered by that very model, a canary's too. Raises UnknownTaskError for a model that is not served
    and InvalidRequestError where a name is needed or contradicts the address; all say what is served.
    Raises UnavailableError while bundles are still loading.
    """
    service = service_of(request)
    if not service.settled.is_set() or not service.models:
        raise UnavailableError(service.obstacle or "no model is loaded")
    in_address: str | None = request.path_params.get("model")
    if in_address is not None:
        target = _within(service, _target(service, in_address), name)
    elif name is not None:
        target = _target(service, name)
    elif len(service.models) == 1:
        target = Target(next(iter(service.models)))
    else:
        count = len(service.models)
        raise InvalidRequestError(f"`model` is missing and {count} are served; expected {_listed(service)}")
    pinned = service.rollouts[target.task].versions.get(target.version) if target.version else None
    return pinned or choose(request, target.task)


def _target(service: Service, name: str) -> Target:
    """Return what a name asks for. Raises UnknownTaskError."""
    for task, model in service.models.items():
        if name in (task.value, model.manifest.name):
            return Target(task)
        if name in service.rollouts[task].versions:
            return Target(task, name)
    raise UnknownTaskError(f"model {name[:100]!r} is not served here; expected {_listed(service)}")


def _within(service: Service, target: Target, name: str | None) -> Target:
    """Return what `name` asks for where the address asks for `target`.

    It may pin a version. A name that is not served here is left alone: many clients cannot send none. Raises
    InvalidRequestError where it contradicts the address.
    """
    try:
        named = _target(service, name) if name is not None else target
    except UnknownTaskError:
        return target
    if named.task is not target.task or (named.version and target.version and named.version != target.version):
        asked = target.version or target.task.value
        raise InvalidRequestError(
            f"model {(name or '')[:100]!r}: the address asks for {asked!r}; expected that or none"
        )
    return named if named.version else target


def _check_returnable(documents: Sequence[shapes.Document]) -> None:
    """Raise InvalidRequestError where a document could not be given back.

    Python reads NaN, which is no JSON, and reads deeper nesting than it can write one level further in.
    """
    for place, document in enumerate(documents):
        probe: Any = document
        for _ in range(LEVELS_AROUND if isinstance(document, dict) else 0):
            probe = [probe]
        try:
            json.dumps(probe, allow_nan=False)
        except ValueError:
            raise InvalidRequestError(f"documents[{place}]: holds NaN or Infinity, expected JSON") from None
        except RecursionError:
            raise InvalidRequestError(f"documents[{place}]: nested too deeply to be given back") from None


def _listed(service: Service) -> str:
    manifests = {task.value: model.manifest for task, model in service.models.items()}
    return " or ".join(f"{task!r} ({each.name}, version {each.version})" for task, each in manifests.items())


async def _rerank(body: shapes.CohereRequest, request: Request) -> tuple[ServedModel, Scored]:
    model = served_model(request, body.model)
    limit, reads = body.max_tokens_per_doc, model.manifest.max_length
    if body.return_documents:
        _check_returnable(body.documents)
    if limit is not None and limit < reads:
        raise InvalidRequestError(
            f"max_tokens_per_doc: {limit}, expected at least {reads}: documents are cut to what the model reads"
        )
    fields = tuple(body.rank_fields or shapes.DEFAULT_RANK_FIELDS)
    pairs = [
        Pair(body.query, shapes.document_text(document, place, fields)) for place, document in enumerate(body.documents)
    ]
    return model, await score_documents(request, model, pairs, DOCUMENTS)


def _cohere(body: shapes.CohereRequest, request: Request, scored: Scored, model: ServedModel) -> dict[str, Any]:
    """Return what the answers of Cohere's v1 and v2 have in common."""
    scores = scored.scores.tolist()
    results: list[dict[str, Any]] = [
        {"index": place, "relevance_score": scores[place]} for place in _best_first(scored, model, body.top_n)
    ]
    if body.return_documents:
        documents = [each if isinstance(each, dict) else {"text": each or ""} for each in body.documents]
        results = [result | {"document": documents[result["index"]]} for result in results]
    meta: dict[str, Any] = {
        "api_version": {"version": "2" if isinstance(body, shapes.CohereV2Request) else "1"},
        "billed_units": {"search_units": 1},
        "tokens": {"input_tokens": scored.tokens},
    }
    if scored.truncated:
        cut = ", ".join(f"documents[{place}]" for place in scored.truncated[:WARNED])
        more = f" and {len(scored.truncated) - WARNED} more" if len(scored.truncated) > WARNED else ""
        meta["warnings"] = [f"cut to the {model.manifest.max_length} tokens that the model reads: {cut}{more}"]
    return {"id": context_of(request).request_id, "results": results, "meta": meta}


def _predict_pairs(inputs: shapes.Inputs) -> tuple[list[Pair], FieldNames]:
    if isinstance(inputs, tuple):
        return [Pair(inputs[0], inputs[1] or "")], FieldNames("inputs", "inputs[0]", "inputs[1]")
    if isinstance(inputs, shapes.TextPair):
        return [Pair(inputs.text, inputs.text_pair or "")], FieldNames("inputs", "inputs.text", "inputs.text_pair")
    parts = (each if isinstance(each, tuple) else (each.text, each.text_pair) for each in inputs)
    pairs = [Pair(query, candidate or "") for query, candidate in parts]
    return pairs, OBJECTS if inputs and isinstance(inputs[0], shapes.TextPair) else PAIRS


def _best_first(scored: Scored, model: ServedModel, top_n: int | None) -> list[int]:
    """Return the places of the best `top_n` scores, equal ones in the order of the request.

    Scores that differ too little for a float are ordered by their logits.
    """
    calibrated = model.manifest.calibration.scale * scored.logits.astype(np.float64)
    order: list[int] = np.lexsort((-calibrated, -scored.scores))[:top_n].tolist()
    return order


def _values(scored: Scored, raw: bool) -> list[float]:
    """Return the scores, or the model's own logits."""
    found: list[float] = (scored.logits if raw else scored.scores).tolist()
    return found


def _answer(content: Any, model: ServedModel, scored: Scored) -> Response:
    """Return an answer with what these shapes have no place for as headers; TEI's own name for the tokens."""
    headers = {
        "X-Compute-Tokens": str(scored.tokens),
        "X-Truncated-Pairs": str(len(scored.truncated)),
        "X-Model-Version": model.manifest.version,
    }
    return Response(json.dumps(content), headers=headers, media_type="application/json")
