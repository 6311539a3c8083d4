"""The `openai` backend: any OpenAI-compatible chat endpoint (vLLM, llama.cpp's server, hosted ones).

Texts go out in batches and come back as structured output (a JSON schema; servers that refuse it are asked for a JSON
object, then for plain text). The whole items of a broken answer are kept; the other texts are sent again one by one.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from relevance.errors import ConfigError, RelevanceError
from training.endpoint.budget import Budget, Cost
from training.endpoint.client import EndpointClient, RefusedError, upper_bound
from training.endpoint.errors import StoppedError
from training.sources import code_key
from training.translation.backends.openai_options import SHAPING, OpenAIOptions
from training.translation.backends.replies import MODES, messages, response_format, translations_in

log = logging.getLogger(__name__)

_REPLY_FRAME_TOKENS = 64  # what an answer holds around its translations


class OpenAITranslator:
    """Translates by chat requests. `translate` raises as `EndpointClient.ask` does; close() ends connections."""

    def __init__(self, options: OpenAIOptions) -> None:
        self.name = f"openai:{options.model}"
        self.batch_size = options.texts_per_request * options.concurrency
        self._options = options
        self._budget = Budget(options)
        self._client = EndpointClient(options, self._budget, "translator")
        self.close = self._client.close
        self._mode = 0

    @property
    def key(self) -> str:
        """Model and all that shapes its answers: the options of SHAPING, and the source that asks and reads replies.

        The URL is not in it, so that a server may move; nor is how often and how fast is asked, or what it may cost.
        """
        options = self._options.model_dump(mode="json")
        shaping = json.dumps({name: options[name] for name in SHAPING}, ensure_ascii=False, separators=(",", ":"))
        code = code_key(
            "training.translation.backends.replies:messages", "training.translation.backends.replies:translations_in"
        )
        digest = hashlib.sha256(f"{shaping} {code}".encode()).hexdigest()
        return f"{self.name} {digest[:16]}"

    @property
    def cost(self) -> Cost:
        """Requests, tokens and money so far."""
        return self._budget.cost

    def supports(self, source: str, target: str) -> bool:
        """Whether the languages differ: what a model knows of them is for the gates to find out."""
        return source != target

    def translate(self, texts: Sequence[str], source: str, target: str) -> list[str | None]:
        """Return one translation per text; None if the model does not translate a text even when it is sent alone."""
        done: dict[int, str | None] = {}  # filled by every request, also before an error: it is paid for

        def translate_batch(numbers: Sequence[int]) -> None:
            found = self._ask([texts[n] for n in numbers], source, target)
            done.update({numbers[place]: text for place, text in found.items()})
            for n in [n for n in numbers if n not in done]:
                done[n] = self._alone(texts[n], source, target, tried=len(numbers) == 1)

        size = self._options.texts_per_request
        pool = ThreadPoolExecutor(self._options.concurrency)
        try:
            batches = [
                pool.submit(translate_batch, range(len(texts))[start : start + size])
                for start in range(0, len(texts), size)
            ]
            wait(batches, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)  # after an error, batches that have not begun never do
        errors = [error for batch in batches if not batch.cancelled() and (error := batch.exception())]
        if errors and done and isinstance(errors[0], RelevanceError):
            kind = type(errors[0]) if isinstance(errors[0], StoppedError) else StoppedError
            raise kind(str(errors[0]), done) from errors[0]
        if errors:
            raise errors[0]
        return [done[n] for n in range(len(texts))]

    def _alone(self, text: str, source: str, target: str, *, tried: bool) -> str | None:
        log.debug("%s: a text came back without a translation", self.name)
        for _ in range(int(tried), self._options.text_attempts):
            if found := self._ask([text], source, target):
                return found[0]
        return None

    def _ask(self, texts: Sequence[str], source: str, target: str) -> dict[int, str]:
        """Return what one request gives, in the most structured mode that the server takes."""
        room = _REPLY_FRAME_TOKENS + self._options.tokens_per_text * len(texts)
        while True:
            mode = self._mode
            body = {
                "model": self._options.model,
                "messages": messages(texts, source, target),
                "temperature": self._options.temperature,
                self._options.max_tokens_field: room,
                **response_format(MODES[mode]),
            }
            body = self._options.with_extra(body)
            try:
                reply = _text(self._client.ask("/chat/completions", body, upper_bound(body, room)))
            except RefusedError as error:
                if mode == len(MODES) - 1:
                    raise ConfigError(f"{error}; expected a server that takes plain chat requests") from None
                self._mode = max(self._mode, mode + 1)
                continue
            return translations_in(reply, len(texts))


def _text(content: Any) -> str | None:
    """Return the first choice's text; a body of another shape is a reply without text."""
    try:
        text = content["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    return text if isinstance(text, str) else None
