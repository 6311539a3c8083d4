"""Scoring by the Open Inference Protocol (KServe v2): BYTES tensors `query` and `candidate` to `score` and `label`.

https://github.com/kserve/open-inference-protocol, inference_rest.md, with Triton's extension for binary tensor data,
which its client uses unless told otherwise. Unknown parameters are ignored.
"""

import json
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from starlette.responses import Response

from relevance.languages import normalize_language
from relevance.tasks import Pair
from service.api.context import service_of
from service.api.feedback.scored import log_scores
from service.api.kserve.infer_route import BINARY_TYPE, HEADER_LENGTH, InferRequest, InferRoute
from service.api.kserve.served import find
from service.api.kserve.tensors import InputTensor, output, split
from service.api.list_type import Many
from service.api.policy import Policy, ProblemKeys
from service.api.problems import PROBLEMS
from service.api.score_call import choose, score_pairs
from service.auth.key_file import Scope
from service.errors import InvalidRequestError
from service.scheduling.job import Priority
from service.scoring.admission import FieldNames
from service.scoring.served_model import Scored, ServedModel

NAMES = FieldNames("candidate", "query[{}]", "candidate[{}]")
INFER_POLICY = Policy(Scope.SCORE, scores=Priority.INTERACTIVE, named=True, problem_keys=ProblemKeys.KSERVE)
EXAMPLE: JsonDict = {
    "inputs": [
        {"name": "query", "shape": [1], "datatype": "BYTES", "data": ["wireless earphones"]},
        {"name": "candidate", "shape": [2], "datatype": "BYTES", "data": ["Bluetooth earphones", "Red cup"]},
    ]
}


class OutputParameters(BaseModel):
    """How one output is returned."""

    binary_data: bool | None = Field(default=None, strict=True, description="true: as bytes behind the JSON")


class WantedOutput(BaseModel):
    """An output that is asked for."""

    name: Literal["score", "label"]
    parameters: OutputParameters = OutputParameters()


class InferParameters(BaseModel):
    """How the outputs are returned that have no parameter of their own."""

    binary_data_output: bool = Field(default=False, strict=True)


class InferBody(BaseModel):
    """Pairs to score. `query` and `language` have one element, for all candidates, or one for each."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: str | None = Field(None, max_length=1000)
    inputs: Many[InputTensor] = Field(max_length=3)
    outputs: Many[WantedOutput] = Field([], max_length=2, description="absent: both")
    parameters: InferParameters = InferParameters()

    @model_validator(mode="after")
    def _each_once(self) -> "InferBody":
        names = [tensor.name for tensor in self.inputs]
        if len(set(names)) < len(names) or not {"query", "candidate"} <= set(names):
            raise ValueError(f"inputs {', '.join(names) or 'none'}: expected query and candidate, once each")
        return self

    def to_pairs(self, binary: bytes, most: int) -> list[Pair]:
        """Return the pairs, in the order of the candidates.

        Raises InvalidRequestError where counts differ, TooLargeError for a binary tensor of over `most` elements.
        """
        parts = split(self.inputs, binary)
        found = {tensor.name: tensor.texts(part, most) for tensor, part in zip(self.inputs, parts, strict=True)}
        candidates = found["candidate"]
        for name in ("query", "language"):
            texts = found.get(name, [""])
            if len(texts) not in (1, len(candidates)):
                expected = f"expected 1, or {len(candidates)} as of candidate"
                raise InvalidRequestError(f"input {name!r}: {len(texts)} elements, {expected}")
            found[name] = texts * len(candidates) if len(texts) == 1 else texts
        languages = [normalize_language(tag or None) for tag in found["language"]]
        return list(map(Pair, found["query"], candidates, languages))

    def is_binary(self, name: str) -> bool | None:
        """Return whether an output goes behind the JSON; None where it is not asked for."""
        wanted = {each.name: each.parameters.binary_data for each in self.outputs} or {"score": None, "label": None}
        if name not in wanted:
            return None
        return self.parameters.binary_data_output if wanted[name] is None else wanted[name]


class OutputTensor(BaseModel):
    """Numbers, one for each candidate."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | None = Field(None, description="absent where the bytes follow the JSON")
    parameters: dict[str, int] | None = None


class InferAnswer(BaseModel):
    """Scores (FP64) and labels (INT64) in the order of the candidates."""

    model_name: str
    model_version: str
    id: str | None = Field(None, description="as the request has it")
    outputs: list[OutputTensor]


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": f"as bytes where binary outputs follow the JSON, whose length {HEADER_LENGTH} says",
        "content": {BINARY_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    }
}
router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], responses=PROBLEMS, route_class=InferRoute)


@router.post("/models/{name}/infer", response_model=InferAnswer, responses=ANSWERS)
@INFER_POLICY
async def infer(name: str, body: InferBody, request: InferRequest) -> Response:
    """Score pairs by a model, named as its bundle or its task."""
    model = find(service_of(request), name, None)
    return await _infer(body, request, choose(request, model.task.value))


@router.post("/models/{name}/versions/{model_version}/infer", response_model=InferAnswer, responses=ANSWERS)
@INFER_POLICY
async def infer_by_version(name: str, model_version: str, body: InferBody, request: InferRequest) -> Response:
    """Score pairs by one version of a model."""
    return await _infer(body, request, find(service_of(request), name, model_version))


async def _infer(body: InferBody, request: InferRequest, model: ServedModel) -> Response:
    pairs = body.to_pairs(request.binary, service_of(request).settings.max_candidates)
    scored = await score_pairs(request, model, pairs, NAMES)
    log_scores(request, model, pairs, scored)
    return _response(body, model, scored)


def _response(asked: InferBody, model: ServedModel, scored: Scored) -> Response:
    found = {"score": ("FP64", scored.scores), "label": ("INT64", np.asarray(scored.labels, dtype=np.int64))}
    outputs, contents = [], []
    for name, (datatype, values) in found.items():
        binary = asked.is_binary(name)
        if binary is not None:
            tensor, content = output(name, datatype, values, binary=binary)
            outputs.append(tensor)
            contents.append(content)
    answer: dict[str, Any] = {"model_name": model.manifest.name, "model_version": model.manifest.version}
    answer |= {} if asked.id is None else {"id": asked.id}
    head, rest = json.dumps(answer | {"outputs": outputs}).encode(), b"".join(contents)
    if not rest:
        return Response(head, media_type="application/json")
    return Response(head + rest, headers={HEADER_LENGTH: str(len(head))}, media_type=BINARY_TYPE)
