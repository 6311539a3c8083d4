"""Where an OpenAI-compatible endpoint is, how fast it is asked and what that may cost."""

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from relevance.secrets import without_secrets
from relevance.storage.strict import StrictModel


class EndpointOptions(StrictModel):
    """How to reach an endpoint and what it may cost. Raising `concurrency` is faster until the server says 429."""

    model: str = Field(min_length=1)
    url: str = Field(description="base URL, as in http://127.0.0.1:8000/v1")
    api_key_variable: str | None = Field(
        None, description="environment variable of the key; no key is sent without it, so that none goes astray"
    )
    concurrency: int = Field(4, gt=0, le=256, description="requests under way at once")
    timeout_seconds: float = Field(60.0, gt=0, description="longest wait for one request")
    attempts: int = Field(
        6,
        gt=0,
        description="tries a request before the server counts as down; waits between them double from 0.5 to 8 s, "
        "or are those that the server asks for, up to 120 s",
    )
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of the request, as in chat_template_kwargs; null takes a field away",
    )
    max_tokens_field: str = Field("max_tokens", description="some servers want max_completion_tokens")
    budget_requests: int | None = Field(None, gt=0, description="cap of requests, retries included, of one run")
    budget_tokens: int | None = Field(None, gt=0, description="cap of tokens in and out, of one run")
    budget_money: float | None = Field(None, gt=0, description="cap of money, of one run; needs the prices")
    price_per_million_prompt: float = Field(0.0, ge=0, description="price of a million tokens sent")
    price_per_million_completion: float = Field(0.0, ge=0, description="price of a million tokens received")

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

    @model_validator(mode="after")
    def _money_has_prices(self) -> Self:
        if self.budget_money and not (self.price_per_million_prompt or self.price_per_million_completion):
            raise ValueError(f"budget_money {self.budget_money:g}: no prices are set; expected price_per_million_*")
        return self

    def with_extra(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the body of a request with the further fields, and without those that are null."""
        return {name: value for name, value in (body | self.extra_body).items() if value is not None}


def model_and_url(text: str) -> tuple[str, str]:
    """Split MODEL@URL at the `@` before the URL; a model's name may hold one too."""
    model, mark, url = text.partition("@http")
    if mark:
        return model, f"http{url}"
    model, _, url = text.rpartition("@")
    return model, url
