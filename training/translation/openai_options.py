"""Options of the `openai` backend, as a recipe or the command line gives them."""

from typing import Any

from pydantic import Field, field_validator

from relevance.secrets import without_secrets
from relevance.storage.strict import StrictModel

# Options that an answer depends on; the others say where, how fast, how often and at what cost to ask.
SHAPING = ("model", "texts_per_request", "temperature", "tokens_per_text", "extra_body", "max_tokens_field")


class OpenAIOptions(StrictModel):
    """How to reach a chat endpoint and what it may cost. Raising `concurrency` is faster until the server says 429."""

    model: str = Field(min_length=1)
    url: str = Field(description="base URL, as in http://127.0.0.1:8000/v1; /chat/completions is added")
    api_key_variable: str | None = Field(
        None, description="environment variable of the key; no key is sent without it, so that none goes astray"
    )
    texts_per_request: int = Field(16, gt=0, le=256, description="more: fewer tokens a text; a bad answer loses more")
    concurrency: int = Field(4, gt=0, le=256, description="requests under way at once")
    timeout_seconds: float = Field(60.0, gt=0)
    attempts: int = Field(
        6,
        gt=0,
        description="tries a request before the translator counts as down; waits between them double from 0.5 to 8 s, "
        "or are those that the server asks for, up to 120 s",
    )
    text_attempts: int = Field(2, gt=0, description="tries of a text alone, after which it counts as untranslatable")
    temperature: float = Field(0.0, ge=0, description="0: the likeliest translation, the same one on every run")
    tokens_per_text: int = Field(96, gt=0, description="room for one translated query in the answer")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of the request, as in chat_template_kwargs; null takes a field away",
    )
    max_tokens_field: str = Field("max_tokens", description="some servers want max_completion_tokens")
    budget_tokens: int | None = Field(None, gt=0, description="cap of tokens in and out, of one run")
    budget_money: float | None = Field(None, gt=0, description="cap of money, of one run; needs the prices")
    price_per_million_prompt: float = Field(0.0, ge=0)
    price_per_million_completion: float = Field(0.0, ge=0)

    @field_validator("url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        scheme, separator, rest = url.partition("://")
        if scheme not in ("http", "https") or not separator or not rest:
            raise ValueError(f"{without_secrets(url)!r} is no URL; expected one as in http://127.0.0.1:8000/v1")
        if "@" in rest.split("/")[0]:
            raise ValueError("holds a user name or password; expected a plain URL and api_key_variable")
        if "?" in rest or "#" in rest:
            raise ValueError("holds a query or fragment; expected a plain URL and api_key_variable")
        return url.rstrip("/").removesuffix("/chat/completions")
