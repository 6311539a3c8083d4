"""Requests to an OpenAI-compatible chat endpoint: time limits, retries with back-off and jitter, a budget.

Knows HTTP and what its failures mean; knows nothing of translation. The API key comes from the environment, is sent to
the one URL only and is never in a message or a log.
"""

import email.utils
import json
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx

from relevance.errors import ConfigError
from relevance.secrets import bearer
from training.translation.budget import Budget, Usage
from training.translation.openai_options import OpenAIOptions
from training.translation.protocol import TranslationStoppedError

# 408, 425, 429 and 5xx say: not now. Everything else that is no success says: not like this.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507, 508, 529})
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server answered: the message's text, None where there is none."""

    content: str | None


class RefusedError(Exception):
    """The server refuses a request as it is (HTTP 400, 415 or 422): another form of it may pass."""


class ChatClient:
    """Sends chat requests, also from several threads at once. ConfigError where the key's variable is not set."""

    def __init__(self, options: OpenAIOptions, budget: Budget, seed: int = 0) -> None:
        self._options, self._budget = options, budget
        self._key = _key_from(options.api_key_variable)
        headers = bearer(f"environment variable {options.api_key_variable}", self._key) if self._key else {}
        limits = httpx.Limits(max_connections=options.concurrency, max_keepalive_connections=options.concurrency)
        self._http = httpx.Client(timeout=options.timeout_seconds, headers=headers, limits=limits)
        self._jitter = random.Random(seed)  # spreads waiting times; no result depends on it
        self._stop = threading.Event()

    def close(self) -> None:
        """Close all connections and end the waits of threads between two attempts."""
        self._stop.set()
        self._http.close()

    def ask(self, body: dict[str, Any], most: Usage) -> Reply:
        """Return the reply to a chat request, tried up to `attempts` times; `most` is all that an attempt can use.

        Raises RefusedError where another form may pass, ConfigError for a wrong key, URL or model, BudgetSpentError,
        and TranslationStoppedError where the server is down, too slow or asks for too long a wait.
        """
        for attempt in range(1, self._options.attempts + 1):
            outcome = self._attempt(body, most)
            if isinstance(outcome, Reply):
                return outcome
            if attempt < self._options.attempts:
                self._wait(attempt, outcome)
        raise TranslationStoppedError(
            f"{self._named()}: {outcome.reason}, {attempt} times in a row; expected an answer"
        )

    def _attempt(self, body: dict[str, Any], most: Usage) -> "Reply | _Failure":
        self._budget.reserve(most)
        charge: Usage | None = None
        try:
            response = self._http.post(f"{self._options.url}/chat/completions", json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            self._budget.settle(most, None)
            return _Failure(f"cannot be reached ({self._clean(str(error) or type(error).__name__)})")
        except httpx.TransportError as error:
            self._budget.lose(most)
            return _Failure(f"the connection broke or timed out ({type(error).__name__})")
        except BaseException:
            self._budget.lose(most)
            raise
        try:
            content = response.json() if response.is_success else None
        except ValueError:
            self._budget.lose(most)
            return _Failure("HTTP 200 with a body that is no JSON")
        if response.is_success:
            charge = _usage(content, most)
        self._budget.settle(most, charge)
        return _reply(content) if response.is_success else self._failure(response)

    def _failure(self, response: httpx.Response) -> "_Failure":
        status = response.status_code
        if status in _PASSING:
            return _Failure(f"HTTP {status}{self._said(response)}", _retry_after(response))
        if status in (401, 403):
            variable = self._options.api_key_variable
            held = f"the key in ${variable}" if variable else "no key (name its variable with api_key_variable)"
            raise ConfigError(f"{self._named()}: HTTP {status} with {held}; expected a key that the server accepts")
        if status in (400, 415, 422):
            raise RefusedError(f"HTTP {status}{self._said(response)}")
        raise ConfigError(
            f"{self._named()}: HTTP {status}{self._said(response)}; expected an OpenAI-compatible endpoint at "
            f"{self._options.url}/chat/completions that has the model"
        )

    def _wait(self, attempt: int, failure: "_Failure") -> None:
        """Wait before the next attempt: doubling, with jitter, and never less than the server asks for."""
        options = self._options
        if failure.retry_after > options.longest_wait_seconds:
            raise TranslationStoppedError(
                f"{self._named()}: {failure.reason} and asks to wait {failure.retry_after:.0f} s; "
                f"expected at most {options.longest_wait_seconds:g} s (longest_wait_seconds)"
            )
        wait = min(options.backoff_seconds * 2 ** (attempt - 1), options.longest_wait_seconds)
        if self._stop.wait(max(wait * self._jitter.uniform(0.5, 1.0), failure.retry_after)):
            raise TranslationStoppedError(f"{self._named()}: stopped while waiting to try again")

    def _said(self, response: httpx.Response) -> str:
        text = self._clean(" ".join(response.text.split()))[:_SHOWN]
        return f" ({text})" if text else ""

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _named(self) -> str:
        return f"translator {self._options.model!r} at {self._options.url}"


@dataclass(frozen=True, slots=True)
class _Failure:
    """An attempt that may go better the next time."""

    reason: str
    retry_after: float = 0.0


def _key_from(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"environment variable {variable}: not set; expected the API key of the translator")
    return key


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds of a Retry-After header, given as seconds or as a date; 0 without one."""
    value = response.headers.get("retry-after", "").strip()
    try:
        return max(float(value), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def _usage(content: Any, most: Usage) -> Usage:
    """Return the usage that the server reports, or the most possible where it reports none."""
    usage = content.get("usage") if isinstance(content, dict) else None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    whole = [count for count in counts if isinstance(count, int) and count >= 0]
    return Usage(*whole) if len(whole) == 2 else most


def _reply(content: Any) -> Reply:
    """Return the first choice's text; a body of another shape is a reply without text."""
    try:
        text = content["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return Reply(None)
    return Reply(text if isinstance(text, str) else None)


def upper_bound(body: dict[str, Any], completion_tokens: int) -> Usage:
    """Return the most that a request can use: tokenizers of bytes never make more tokens than there are bytes."""
    return Usage(len(json.dumps(body["messages"], ensure_ascii=False).encode()), completion_tokens)
