"""Scores pairs by what a model behind an endpoint answers: a language model's yes or no, or a re-ranker's score.

The prompt is that of `relevance.text.prompt`. The score of a pair is P(yes) / (P(yes) + P(no)) among the likeliest
first tokens of the answer, whatever their case and the white space around them (arXiv 2510.21671 has the softmax over
both logits, which is the same). A re-ranker is asked
by the route `/rerank` that Jina, Cohere, vLLM and this project's service share. Answers are kept on disk, so that no
pair is paid for twice.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError
from relevance.tasks import Task
from relevance.text.prompt import Prompt
from training.data.disk_cache import DiskCache
from training.endpoint.budget import Budget
from training.endpoint.client import EndpointClient, RefusedError, upper_bound
from training.endpoint.errors import StoppedError
from training.scoring.options import AskOptions, bare_word
from training.scoring.shards import ModelId

MOST_UNDECIDED = 0.5  # of the first pairs; above it, the model does not answer the prompt with one word
FIRST_PAIRS = 20
PATHS = {"chat": "/chat/completions", "completions": "/completions"}
Sides = Mapping[str, float]  # the log-probability of each of the likeliest first tokens


class Teacher:
    """A model that is asked about pairs of a task. Used from one thread; asks from several."""

    def __init__(self, options: AskOptions, task: Task, cache: DiskCache) -> None:
        self.known = 0  # pairs whose answer the cache had
        self.budget = Budget(options)
        self._options, self._cache = options, cache
        self._prompt = options.prompt(task)
        self._ask = self._ask_ranker if options.api == "rerank" else self._ask_words
        self._client = EndpointClient(options, self.budget, "teacher")
        self.close = self._client.close
        shaping = {name: getattr(options, name) for name in ("model", "api", "top_logprobs", "extra_body")}
        shaping["max_tokens_field"] = options.max_tokens_field
        asked = self._prompt.model_dump(include={"text", "yes", "no"})  # tokens are the server's own
        content = json.dumps([shaping, asked], sort_keys=True, ensure_ascii=False)
        digest = hashlib.sha256(content.encode()).hexdigest()
        self.model = ModelId(task, f"{options.model} {digest[:12]}", digest)

    def scores(
        self, queries: Sequence[str], candidates: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the scores [N] of pairs, given as columns, and where [N] the model gave neither answer: 0.5.

        Raises StoppedError where the server is down or the budget is spent, ConfigError where it gives no
        log-probabilities or mostly other answers. What was answered before is kept.
        """
        texts = [self._question(query, candidate) for query, candidate in zip(queries, candidates, strict=True)]
        space = ("teacher", self.model.digest)
        found: dict[str, Any] = self._cache.get(space, list(dict.fromkeys(texts)))
        self.known += len(found)
        for text, value in self._asked([text for text in dict.fromkeys(texts) if text not in found]):
            self._cache.put(space, {text: value})
            found[text] = value
            self._check_decided(list(found.values()))
        scores = np.array([found[text] for text in texts], dtype=np.float64)  # None becomes NaN
        undecided = np.isnan(scores)
        return np.where(undecided, 0.5, scores), undecided

    def _question(self, query: str, candidate: str) -> str:
        """Return the text that stands for a pair: the whole prompt, or for a re-ranker both texts as JSON."""
        if self._options.api == "rerank":
            return json.dumps([query, candidate], ensure_ascii=False)
        before, between, after = self._prompt.parts
        return f"{before}{query}{between}{candidate}{after}"

    def _asked(self, texts: Sequence[str]) -> Iterator[tuple[str, float | None]]:
        """Yield each text with the score of its answer, as answers come. After an error nothing more is asked."""
        if not texts:
            return
        pool = ThreadPoolExecutor(self._options.concurrency)
        waiting: dict[Future[float | None], str] = {pool.submit(self._ask, text): text for text in texts}
        told, error = set(), None
        try:
            for done in as_completed(waiting):
                if error := done.exception():
                    break
                told.add(done)
                yield waiting[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)
        if error is not None:
            for done in waiting.keys() - told:  # those that were under way are paid for
                if not done.cancelled() and done.exception() is None:
                    yield waiting[done], done.result()
            raise self._kept(error)

    def _ask_ranker(self, text: str) -> float:
        """Return the score of one pair by a re-ranker."""
        options, (query, document) = self._options, json.loads(text)
        body = options.with_extra({"model": options.model, "query": query, "documents": [document]})
        try:
            reply = self._client.ask("/rerank", body, upper_bound({"prompt": text}, 0))
        except RefusedError as error:
            raise ConfigError(f"{error}; expected an endpoint that ranks documents at {options.url}/rerank") from None
        score = score_of_ranker(reply)
        if score is None:
            raise ConfigError(
                f"teacher {options.model!r} at {options.url}: it answers {str(reply)[:200]}; expected results with a "
                "relevance_score from 0 to 1"
            )
        return score

    def _ask_words(self, text: str) -> float | None:
        options = self._options
        body = {"model": options.model, "temperature": 0, options.max_tokens_field: 1}
        if options.api == "chat":
            body |= {"messages": [{"role": "user", "content": text}], "logprobs": True}
            body["top_logprobs"] = options.top_logprobs
        else:
            body |= {"prompt": text, "logprobs": options.top_logprobs}
        body = options.with_extra(body)
        try:
            reply = self._client.ask(PATHS[options.api], body, upper_bound(body, 1))
        except RefusedError as error:
            raise ConfigError(
                f"{error}; expected an endpoint that gives {options.top_logprobs} log-probabilities"
            ) from None
        sides = READ[options.api](reply)
        if not sides:
            raise ConfigError(
                f"teacher {options.model!r} at {options.url}: its answer has no log-probabilities; expected a server "
                "that gives them (logprobs), see the option api"
            )
        return score_of(sides, self._prompt)

    def _check_decided(self, values: Sequence[float | None]) -> None:
        first = values[:FIRST_PAIRS]
        if len(first) == FIRST_PAIRS and sum(value is None for value in first) > MOST_UNDECIDED * FIRST_PAIRS:
            raise ConfigError(
                f"teacher {self._options.model!r}: its answers to most of {FIRST_PAIRS} pairs begin with neither "
                f"{self._prompt.yes!r} nor {self._prompt.no!r}; expected a model that answers the prompt with one word"
            )

    def _kept(self, error: BaseException) -> BaseException:
        if not isinstance(error, StoppedError):
            return error
        kept = f"{len(self._cache)} answers are kept in {self._cache.path}: the same command goes on from there"
        return type(error)(f"{error}; {kept}")


def score_of(sides: Sides, prompt: Prompt) -> float | None:
    """Return P(yes) / (P(yes) + P(no)); None where neither is among the likeliest tokens.

    One that is not among them has at most the probability of the least likely one that is.
    """
    sums = {bare_word(prompt.yes): 0.0, bare_word(prompt.no): 0.0}
    for token, logprob in sides.items():
        if bare_word(token) in sums:
            sums[bare_word(token)] += math.exp(logprob)
    if not any(sums.values()):
        return None
    least = math.exp(min(sides.values()))
    yes, no = (value or least for value in sums.values())
    return yes / (yes + no)


def score_of_ranker(reply: Any) -> float | None:
    """Return the score of the one document that was sent; None where there is none from 0 to 1."""
    try:
        score = float(reply["results"][0]["relevance_score"])
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return score if 0 <= score <= 1 else None


def _of_chat(reply: Any) -> Sides:
    try:
        first = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return {str(each["token"]): float(each["logprob"]) for each in first}
    except (KeyError, IndexError, TypeError, ValueError):
        return {}


def _of_completions(reply: Any) -> Sides:
    try:
        first = reply["choices"][0]["logprobs"]["top_logprobs"][0]
        return {str(token): float(logprob) for token, logprob in first.items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return {}


READ: dict[str, Callable[[Any], Sides]] = {"chat": _of_chat, "completions": _of_completions}
