"""Requests to an OpenAI-compatible endpoint: the `openai` client and its retries, within a budget.

Knows HTTP and what its failures mean; knows nothing of what is asked. The API key comes from the environment, is sent
to the one URL only and is never in a message or a log.
"""

import json
import os
from typing import Any

import httpx2
import openai

from relevance.errors import ConfigError, RelevanceError
from relevance.secrets import bearer
from training.endpoint.budget import NOTHING, Budget, Usage
from training.endpoint.errors import BudgetSpentError, StoppedError
from training.endpoint.options import EndpointOptions

# The request never reached a server, so that it costs nothing.
_UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)
_RETRIED = frozenset({408, 409, 429})  # by the openai client, and every status from 500
_MOST_HEADER = "x-most-tokens"  # carries the upper bound of a request to `_BudgetedHttp`; never sent
# The openai client adds facts about this machine, and accounts and headers of OPENAI_* variables: none of them is sent.
_SENT_HEADERS = frozenset(
    {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
)
_SHOWN = 200


class RefusedError(Exception):
    """The server refuses a request as it is (HTTP 400, 415 or 422): another form of it may pass."""


class EndpointClient:
    """Sends requests, also from several threads at once. ConfigError where the key's variable is not set.

    `what` names the model's part in messages, as in "translator".
    """

    def __init__(self, options: EndpointOptions, budget: Budget, what: str) -> None:
        self._options, self._what = options, what
        self._key = _key_from(options.api_key_variable)
        headers = bearer(f"environment variable {options.api_key_variable}", self._key) if self._key else {}
        self._http = _BudgetedHttp(budget, headers, options.concurrency)
        self._client = openai.OpenAI(
            api_key="not sent",  # `headers` hold the key, if any
            base_url=options.url,
            timeout=options.timeout_seconds,
            max_retries=options.attempts - 1,
            http_client=self._http,
        )

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def ask(self, path: str, body: dict[str, Any], most: Usage) -> Any:
        """Return the JSON of the reply to a request to a path below the URL; `most` is all that one attempt can use.

        Raises RefusedError where another form may pass, ConfigError for a wrong key, URL or model, BudgetSpentError,
        and StoppedError where the server is down, too slow or asks for too long a wait.
        """
        headers = {_MOST_HEADER: f"{most.prompt_tokens} {most.completion_tokens}"}
        try:
            reply = self._client.post(path, body=body, cast_to=httpx2.Response, options={"headers": headers})
        except openai.APIStatusError as error:
            raise self._failure(path, error.response) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__
            what = "cannot be reached" if isinstance(cause, _UNREACHED) else "the connection broke or timed out"
            raise StoppedError(
                f"{self._named()}: {what} ({self._clean(str(cause) or type(cause).__name__)}), "
                f"{self._options.attempts} times in a row; expected an answer"
            ) from None
        except _CarriedError as error:
            raise error.reason from None
        return reply.json()

    def _failure(self, path: str, response: httpx2.Response) -> Exception:
        status, said = response.status_code, self._clean(" ".join(response.text.split()))[:_SHOWN]
        what = f"{self._named()}: HTTP {status}" + (f" ({said})" if said else "")
        if status in _RETRIED or status >= 500:
            wait = response.headers.get("retry-after")
            asks = f" and asks to wait {wait} s" if wait else ""
            return StoppedError(f"{what}{asks}, in up to {self._options.attempts} attempts")
        if status in (401, 403):
            variable = self._options.api_key_variable
            held = f"the key in ${variable}" if variable else "no key (name its variable with api_key_variable)"
            return ConfigError(f"{self._named()}: HTTP {status} with {held}; expected a key that the server accepts")
        if status in (400, 415, 422):
            return RefusedError(what)
        return ConfigError(
            f"{what}; expected an OpenAI-compatible endpoint at {self._options.url}{path} that has the model"
        )

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _named(self) -> str:
        return f"{self._what} {self._options.model!r} at {self._options.url}"


class _CarriedError(openai.OpenAIError):
    """Carries an error of ours through the openai client, which retries all errors but its own."""

    def __init__(self, reason: RelevanceError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _BudgetedHttp(httpx2.Client):
    """Sends each attempt within the budget, with few headers and no key but the one given."""

    def __init__(self, budget: Budget, key: dict[str, str], connections: int) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections))
        self._budget, self._key = budget, key

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Reserve the most that the request can use, send it, and charge what it used: all of it if no answer came."""
        most = Usage(*map(int, request.headers[_MOST_HEADER].split()))
        sent = {name: value for name, value in request.headers.items() if name in _SENT_HEADERS}
        request.headers = httpx2.Headers(sent | self._key)
        try:
            self._budget.reserve(most)
        except BudgetSpentError as error:
            raise _CarriedError(error) from None
        used = None
        try:
            response = super().send(request, **options)
            used = _usage(response, most) if response.is_success else NOTHING
        except _UNREACHED:
            used = NOTHING
            raise
        finally:
            self._budget.settle(most, used)
        return response


def upper_bound(body: dict[str, Any], completion_tokens: int) -> Usage:
    """Return the most that a request can use: tokenizers of bytes never make more tokens than there are bytes."""
    return Usage(
        len(json.dumps(body.get("messages", body.get("prompt")), ensure_ascii=False).encode()), completion_tokens
    )


def _key_from(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"environment variable {variable}: not set; expected the API key of the endpoint")
    return key


def _usage(response: httpx2.Response, most: Usage) -> Usage:
    """Return the usage that the server reports, or the most possible where it reports none.

    A body that is no JSON counts as a broken connection, so that the client tries again.
    """
    try:
        content = response.json()
    except ValueError:
        raise httpx2.RemoteProtocolError(f"HTTP {response.status_code} with a body that is no JSON") from None
    usage = content.get("usage") if isinstance(content, dict) else None
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")] if isinstance(usage, dict) else []
    whole = [count for count in counts if isinstance(count, int) and count >= 0]
    return Usage(*whole) if len(whole) == 2 else most
