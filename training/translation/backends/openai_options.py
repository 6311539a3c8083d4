"""Options of the `openai` backend, as a recipe or the command line gives them."""

from pydantic import Field

from training.endpoint.options import EndpointOptions

# Options that an answer depends on; the others say where, how fast, how often and at what cost to ask.
SHAPING = ("model", "texts_per_request", "temperature", "tokens_per_text", "extra_body", "max_tokens_field")


class OpenAIOptions(EndpointOptions):
    """How a chat endpoint is asked for translations."""

    texts_per_request: int = Field(16, gt=0, le=256, description="more: fewer tokens a text; a bad answer loses more")
    text_attempts: int = Field(2, gt=0, description="tries of a text alone, after which it counts as untranslatable")
    temperature: float = Field(0.0, ge=0, description="0: the likeliest translation, the same one on every run")
    tokens_per_text: int = Field(96, gt=0, description="room for one translated query in the answer")
