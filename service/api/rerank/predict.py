"""`/predict`: pairs as text-embeddings-inference (TEI) takes them, and as OpenSearch's connector sends them.

Unknown keys are ignored, as TEI does. Languages are unknown in this shape.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag
from pydantic.config import JsonDict
from starlette.responses import Response

from relevance.tasks import Pair
from service.api.body.json_route import JsonRoute
from service.api.feedback.scored import log_scores
from service.api.list_type import Many
from service.api.policy import Policy, ProblemKeys
from service.api.problems import PROBLEMS
from service.api.rerank.documents import score_documents
from service.api.rerank.fields import MODEL, Direction, Flag, Text
from service.api.rerank.model_choice import ModelParameter, served_model
from service.api.rerank.ranking import answer, values
from service.auth.key_file import Scope
from service.scheduling.job import Priority
from service.scoring.admission import FieldNames

PAIRS = FieldNames("inputs", "inputs[{}][0]", "inputs[{}][1]")
OBJECTS = FieldNames("inputs", "inputs[{}].text", "inputs[{}].text_pair")
ONLY_CLASS = "LABEL_0"  # what transformers, and so TEI and SageMaker, call the one class of such a model
PAIRS_EXAMPLE: JsonDict = {
    "model": "qi",
    "inputs": [["wireless earphones", "Bluetooth earphones"], ["wireless earphones", "Red cup"]],
}
OBJECTS_EXAMPLE: JsonDict = {
    "model": "qi",
    "inputs": [{"text": "wireless earphones", "text_pair": "Bluetooth earphones"}],
}

router = APIRouter(responses=PROBLEMS, route_class=JsonRoute)


class TextPair(BaseModel):
    """A pair as OpenSearch's connector and transformers pipelines write it."""

    text: str
    text_pair: Text


def _form(inputs: Any) -> str | None:
    """Return which of the forms of `inputs` this is; None for something else."""
    if isinstance(inputs, dict):
        return "object"
    if not isinstance(inputs, list):
        return None
    first = inputs[0] if inputs else []
    return "pair" if isinstance(first, str) else "objects" if isinstance(first, dict) else "pairs"


Inputs = Annotated[
    Annotated[tuple[str, Text], Tag("pair")]
    | Annotated[Many[tuple[str, Text]], Tag("pairs")]
    | Annotated[TextPair, Tag("object")]
    | Annotated[Many[TextPair], Tag("objects")],
    Discriminator(
        _form,
        custom_error_type="inputs_form",
        custom_error_message="expected a pair [query, candidate], a list of pairs, or objects with text and text_pair",
    ),
]


class PredictRequest(BaseModel):
    """What `/predict` takes: TEI's pairs, or OpenSearch's objects."""

    model_config = ConfigDict(json_schema_extra={"examples": [PAIRS_EXAMPLE, OBJECTS_EXAMPLE]})

    inputs: Inputs
    model: str | None = Field(None, description=MODEL)
    raw_scores: Flag = Field(None, description="logits in place of probabilities")
    truncate: Flag = Field(None, description="false: refuse pairs that are longer than the model reads; else cut them")
    truncation_direction: Direction = None


class Prediction(BaseModel):
    """One class of `/predict` and its probability; there is one class, relevant."""

    label: str
    score: float


@router.post("/predict", response_model=list[Prediction] | list[list[Prediction]])
@Policy(Scope.SCORE, scores=Priority.INTERACTIVE, named=True, model_prefix=True, problem_keys=ProblemKeys.TEI)
async def predict(body: PredictRequest, request: Request, model: ModelParameter = None) -> Response:
    """Score pairs in their order: a list for each of TEI's pairs, one flat list for OpenSearch's objects."""
    served = served_model(request, body.model or model)
    pairs, names = _pairs(body.inputs)
    scored = await score_documents(request, served, pairs, names, truncate=body.truncate is not False)
    log_scores(request, served, pairs, scored)
    flat = [{"label": ONLY_CLASS, "score": value} for value in values(scored, bool(body.raw_scores))]
    batch_of_pairs = isinstance(body.inputs, list) and names is PAIRS
    return answer([[each] for each in flat] if batch_of_pairs else flat, served, scored)


def _pairs(inputs: Inputs) -> tuple[list[Pair], FieldNames]:
    if isinstance(inputs, tuple):
        return [Pair(inputs[0], inputs[1] or "")], FieldNames("inputs", "inputs[0]", "inputs[1]")
    if isinstance(inputs, TextPair):
        return [Pair(inputs.text, inputs.text_pair or "")], FieldNames("inputs", "inputs.text", "inputs.text_pair")
    parts = (each if isinstance(each, tuple) else (each.text, each.text_pair) for each in inputs)
    pairs = [Pair(query, candidate or "") for query, candidate in parts]
    return pairs, OBJECTS if inputs and isinstance(inputs[0], TextPair) else PAIRS
