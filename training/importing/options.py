"""Options of an import; imports no torch."""

from pydantic import Field

from relevance.storage.strict import OptionsModel
from relevance.tasks import Task


class ImportOptions(OptionsModel):
    """What a model's own files cannot say, or what is to differ from them."""

    task: Task = Field(Task.RERANK, description="the task that the model serves; rerank: any document")
    name: str | None = Field(None, min_length=1, description="name of the model; absent: that of its folder or hub id")
    label: str | None = Field(
        None, description="which output means relevant, by name or number; needed for more than two"
    )
    max_length: int | None = Field(None, gt=4, description="tokens a pair; absent: what the model's files say")
    prompt: str | None = Field(
        None,
        description="text before every query; of a chat template: the instruction; absent: the default prompt in the "
        "model's files",
    )
    template: str | None = Field(
        None,
        min_length=1,
        description="the prompt that a pair stands in: qwen3-reranker, or a file with a text with {query} and "
        "{candidate} or a Jinja template as vLLM takes it; absent: the model's own chat template, if it is for pairs",
    )
    yes: str | None = Field(
        None, min_length=1, description="a language model's answer for relevant, one token; absent: its files, or yes"
    )
    no: str | None = Field(
        None, min_length=1, description="a language model's answer for irrelevant, one token; absent: its files, or no"
    )
    candidate_prefix: str = Field("", description="text before every document")
    threshold: float = Field(0.5, ge=0, le=1, description="a score at or above it is labelled 1")
