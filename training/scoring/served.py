"""Scores a file by a bundle of safetensors that vLLM serves, in the shards and the output of every other scorer.

vLLM runs the network alone. Texts are prepared, tokenised and cut here, by the bundle's card, and go to its route
`/classify` as token ids, without its activation: so an answer is the logit of the very tokens that the model was
trained on. Calibration and thresholds are the card's again. Before the first pair the server is compared with the
bundle's golden pairs.
"""

import itertools
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relevance.errors import BundleError, ConfigError
from relevance.model.bundle import Bundle
from relevance.model.card import sigmoid
from relevance.model.inputs import PairInputs
from relevance.model.session import Logits, Read, Tokens
from relevance.scorer import Scorer
from relevance.tasks import Pair
from relevance.text.token_columns import TokenColumns
from training.endpoint.budget import Budget, Cost, Usage
from training.endpoint.client import EndpointClient, RefusedError
from training.endpoint.errors import StoppedError
from training.scoring.options import ScoreOptions, ServedOptions
from training.scoring.run import ScoreReport, check_paths, score_by
from training.scoring.shards import LocalRunner

PATH = "/classify"
MEND = "expected vLLM as the README.md of the bundle starts it"


class ServedReport(ScoreReport):
    """What scoring did, and what the requests of this run cost, without a run that it resumes."""

    cost: Cost

    def text(self) -> str:
        """Return the report in words."""
        cost = self.cost
        return (
            f"{super().text()}\n  {cost.requests:,} requests, {cost.charged_tokens:,} tokens, {cost.money:g} of money"
        )


def score_served(folder: Path, serving: ServedOptions, file: Path, out: Path, options: ScoreOptions) -> ServedReport:
    """Score the rows of `file` by the vLLM that serves the bundle `folder` and write them to `out`, as `score_file`.

    Raises what that raises, ConfigError where the server has another model or answers in another shape, and
    StoppedError where it is down or the budget is spent.
    """
    began = time.monotonic()
    check_paths(file, out, [folder], options)
    bundle = Bundle.open(folder, "safetensors", weights=False)
    serving = serving if serving.model else serving.model_copy(update={"model": bundle.manifest.name})
    budget = Budget(serving)
    with closing(EndpointClient(serving, budget, "vLLM")) as client:
        model = ServedModel(bundle, bundle.inputs(), client, serving)
        model.test()
        report = score_by(LocalRunner(Scorer(model, (0, "auto", None))), f"bundle {folder}", file, out, options)
    own = {"cost": budget.cost, "total_seconds": round(time.monotonic() - began, 3)}
    return ServedReport(**(report.model_dump() | own))


@dataclass(frozen=True)
class ServedModel:
    """A bundle whose model runs in vLLM: a `PairModel`."""

    bundle: Bundle
    inputs: PairInputs
    client: EndpointClient
    options: ServedOptions

    @property
    def device(self) -> str:
        """Where the model runs."""
        return "endpoint"

    def test(self) -> None:
        """Ask for the golden pairs, and for a pair as long as the model reads. ConfigError where answers differ."""
        pairs, tokenizer = [golden.pair for golden in self.bundle.golden], self.inputs.tokenizer
        query = tokenizer.encode_texts([self.inputs.query(pairs[0].query, pairs[0].language)[0]])[0]
        long = tokenizer.join(query * tokenizer.max_length, query * tokenizer.max_length)
        *found, _ = self._asked([pair.input_ids for pair in (*self.inputs.encode(pairs), long)])
        try:
            self.bundle.check_golden(found)
        except BundleError as error:
            golden = np.array([pair.logit for pair in self.bundle.golden])
            as_scores = np.ptp(golden) > 0.1 and np.abs(sigmoid(golden) - found).max() < 0.02
            kind = "scores, not logits: use_activation, which vLLM has since 0.11.1, was not read"
            fault = f" (its answers are {kind})" if as_scores else ""
            raise ConfigError(f"{self._named()}: {error}{fault}; {MEND}") from None

    def read(self, pairs: Sequence[Pair], tokens: Tokens, max_batch_tokens: int | None = None) -> Read:
        """Return the logits of pairs by their tokens, asked for in several requests at once. Errors as `score_served`.

        vLLM makes the batches: `max_batch_tokens` is not read.
        """
        if not isinstance(tokens, TokenColumns):
            raise TypeError("expected the tokens of pairs as columns")
        logits: Logits = np.array(self._asked(_ids(tokens)), dtype=np.float32)
        return Read(logits, tokens.truncated)

    def _asked(self, rows: list[list[int]]) -> list[float]:
        """Return the logits [N] of the token ids of N pairs, by several requests at once."""
        size = self.options.request_pairs
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        pool = ThreadPoolExecutor(self.options.concurrency)
        try:
            return list(itertools.chain.from_iterable(pool.map(self._ask, parts)))
        finally:
            pool.shutdown(cancel_futures=True)

    def _ask(self, rows: list[list[int]]) -> list[float]:
        """Return the logits [n] of the token ids of n pairs."""
        body = self.options.with_extra({"model": self.options.model, "input": rows, "use_activation": False})
        lengths = list(map(len, rows))
        try:
            reply = self.client.ask(PATH, body, Usage(sum(lengths), 0))
        except RefusedError as error:
            most = self.bundle.manifest.max_length
            raise ConfigError(
                f"{error}; the longest of {len(rows)} inputs has {max(lengths)} tokens, {MEND}, with --max-model-len "
                f"{most} or more"
            ) from None
        return self._logits(reply, len(rows))

    def _logits(self, reply: Any, count: int) -> list[float]:
        """Return the logits of a reply, in the order of the inputs. ConfigError for another shape, or no number."""
        try:
            rows = {int(each["index"]): each["probs"] for each in reply["data"]}
            found = [float(value) for place in range(count) for value in rows[place]]
        except (KeyError, TypeError, ValueError):
            raise ConfigError(
                f"{self._named()}: it answers {str(reply)[:200]} to {count} inputs; expected a classifier's outputs "
                f"(data, index, probs) for each; {MEND}"
            ) from None
        if len(reply["data"]) != count or any(len(rows[place]) != 1 for place in range(count)):
            raise ConfigError(
                f"{self._named()}: {len(reply['data'])} results with {len(found)} outputs for {count} inputs; expected "
                f"one each; {MEND}"
            )
        if not all(map(math.isfinite, found)):
            faults = sum(not math.isfinite(each) for each in found)
            raise StoppedError(f"{self._named()}: {faults} of {count} logits are not finite; expected numbers")
        return found

    def _named(self) -> str:
        return f"vLLM {self.options.model!r} at {self.options.url}"


def _ids(tokens: TokenColumns) -> list[list[int]]:
    """Return the token ids of N pairs, without padding."""
    ids = tokens.collate(range(len(tokens)))["input_ids"]
    return [row[:length].tolist() for row, length in zip(ids, tokens.lengths.tolist(), strict=True)]
