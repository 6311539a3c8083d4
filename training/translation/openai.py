"""The `openai` backend: any OpenAI-compatible chat endpoint (vLLM, llama.cpp's server, hosted ones).

Texts go out in batches and come back as structured output (a JSON schema; servers that refuse it are asked for a JSON
object, then for plain text). Of an answer that is cut off or broken, what is whole is kept, and the texts without a
translation are asked for one by one.
"""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from relevance.errors import ConfigError, RelevanceError
from training.sources import code_key
from training.translation.budget import Budget, Prices
from training.translation.chatclient import ChatClient, RefusedError, upper_bound
from training.translation.openai_options import SHAPING, OpenAIOptions
from training.translation.protocol import Cost, TranslationStoppedError
from training.translation.replies import MODES, messages, response_format, translations_in

log = logging.getLogger(__name__)

_REPLY_FRAME_TOKENS = 64  # what an answer holds around its translations


class OpenAITranslator:
    """Translates by chat requests. Errors of `translate` are those of `ChatClient.ask`; close() ends connections."""

    def __init__(self, options: OpenAIOptions) -> None:
        if options.budget_money and not (options.price_per_million_prompt or options.price_per_million_completion):
            raise ConfigError(f"budget_money {options.budget_money:g}: no prices are set; expected price_per_million_*")
        self.name = f"openai:{options.model}"
        self.batch_size = options.texts_per_request * options.concurrency
        self._options = options
        prices = Prices(options.price_per_million_prompt, options.price_per_million_completion)
        self._budget = Budget(prices, options.budget_tokens, options.budget_money)
        self._client = ChatClient(options, self._budget)
        self._mode = 0

    @property
    def key(self) -> str:
        """Model and all that shapes its answers: the options of SHAPING, and the source that asks and reads replies.

        The URL is not in it, so that a server may move; nor is how often and how fast is asked, or what it may cost.
        """
        shaping = self._options.model_dump_json(include=set(SHAPING))
        code = code_key("training.translation.replies:messages", "training.translation.replies:translations_in")
        digest = hashlib.sha256(f"{shaping} {code}".encode()).hexdigest()
        return f"{self.name} {digest[:16]}"

    @property
    def cost(self) -> Cost:
        """Requests, tokens and money so far."""
        return self._budget.cost

    def supports(self, source: str, target: str) -> bool:
        """Whether the languages differ: what a model knows of them is for the gates to find out."""
        return source != target

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Return one translation a text, None for texts that the model does not translate when asked alone either."""
        size = self._options.texts_per_request
        starts = range(0, len(texts), size)
        done: dict[int, str | None] = {}
        failure: RelevanceError | None = None
        with ThreadPoolExecutor(self._options.concurrency) as pool:
            waiting: list[Future[dict[int, str | None]]] = [
                pool.submit(self._batch, texts[start : start + size], source, target) for start in starts
            ]
            for start, future in zip(starts, waiting, strict=True):
                if future.cancelled():
                    continue
                try:
                    part = future.result()
                except RelevanceError as error:
                    # What other requests finished is paid for: it is handed over with the error.
                    part = getattr(error, "done", {})
                    failure = failure or error
                    for other in waiting:
                        other.cancel()
                done |= {start + n: text for n, text in part.items()}
        if failure is not None:
            raise _with_done(failure, done)
        return [done[n] for n in range(len(texts))]

    def _batch(self, texts: Sequence[str], source: str, target: str) -> dict[int, str | None]:
        done: dict[int, str | None] = {}
        try:
            done |= self._ask(texts, source, target)
            missing = [n for n in range(len(texts)) if n not in done]
            if missing:
                log.debug("%s: %d of %d texts came back without a translation", self.name, len(missing), len(texts))
            for n in missing:
                done[n] = self._alone(texts[n], source, target, 1 if len(texts) == 1 else 0)
        except RelevanceError as error:
            raise _with_done(error, done) from error
        return done

    def _alone(self, text: str, source: str, target: str, tried: int) -> str | None:
        for _ in range(tried, self._options.text_attempts):
            found = self._ask([text], source, target)
            if found:
                return found[0]
        return None

    def _ask(self, texts: Sequence[str], source: str, target: str) -> dict[int, str]:
        """Return what one request gives, in the most structured mode that the server takes."""
        room = _REPLY_FRAME_TOKENS + self._options.tokens_per_text * len(texts)
        while True:
            mode = self._mode
            body = self._body(texts, source, target, MODES[mode], room)
            try:
                reply = self._client.ask(body, upper_bound(body, room))
            except RefusedError as error:
                if mode == len(MODES) - 1:
                    raise ConfigError(
                        f"{self.name} at {self._options.url}: {error}; expected a server that takes plain chat requests"
                    ) from None
                self._mode = max(self._mode, mode + 1)
                continue
            return translations_in(reply.content, len(texts))

    def _body(self, texts: Sequence[str], source: str, target: str, mode: str, room: int) -> dict[str, Any]:
        body = {
            "model": self._options.model,
            "messages": messages(texts, source, target),
            "temperature": self._options.temperature,
            self._options.max_tokens_field: room,
            **response_format(mode),
        }
        body |= self._options.extra_body
        return {name: value for name, value in body.items() if value is not None}


def _with_done(error: RelevanceError, done: dict[int, str | None]) -> RelevanceError:
    """Return the error holding what was finished before it; errors of configuration become one that can."""
    if isinstance(error, TranslationStoppedError):
        return type(error)(str(error), done)
    return error if not done else TranslationStoppedError(str(error), done)
