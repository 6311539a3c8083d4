"""From pairs of text to what a model reads. The one place for training, export, scorer and service.

The format makes two texts of a pair, and the tokeniser makes token ids of them. Lexical overlap and category prior are
numbers beside them: the features of the pair.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from relevance.errors import CheckpointError
from relevance.evaluation.soundness import MIN_PAIRS
from relevance.model.card import TOKENIZER_FILE, ModelCard, explain
from relevance.model.prior import PRIOR_FILE, CategoryPrior, PriorFeatures
from relevance.model.text_cache import Key, ReadText, TextCache
from relevance.tasks import Pair, Task
from relevance.text.formatting import PairFormat
from relevance.text.overlap import CandidateLetters, QueryLetters
from relevance.text.token_columns import TokenColumns
from relevance.text.tokenization import PairTokenizer, TokenizedPair

TOKENIZED_AT_ONCE = 4096  # texts: the tokenizer's own results take some kB each
PRIOR_BYTES = 32  # of one number of the prior
MAX_UNKNOWN_SHARE = 0.5  # with a larger share of unknown categories, the table is of another taxonomy


@dataclass(frozen=True, slots=True)
class CandidateFeatures:
    """What a candidate contributes to the features of its pairs; empty parts where the model reads none."""

    letters: CandidateLetters | None = None
    prior: PriorFeatures = ()

    def with_query(self, query: QueryLetters | None) -> tuple[float, ...]:
        """Return the features [F] of a pair: its lexical overlap, then the category prior."""
        if query is None or self.letters is None:
            return self.prior
        return query.overlap(self.letters) + self.prior

    @property
    def nbytes(self) -> int:
        """The memory of the features in bytes."""
        return (self.letters.nbytes if self.letters is not None else 0) + PRIOR_BYTES * len(self.prior)


NO_FEATURES = CandidateFeatures()


@dataclass(frozen=True, slots=True)
class PairInputs:
    """How a model reads pairs: `overlap` adds lexical features, `prior` (None: none) those of the category prior."""

    task: Task
    format: PairFormat
    tokenizer: PairTokenizer
    overlap: bool = False
    prior: CategoryPrior | None = None

    @classmethod
    def from_checkpoint(cls, folder: Path, card: ModelCard) -> Self:
        """Read the tokenizer and the prior of a checkpoint. Raises InputError or CheckpointError naming the file."""
        tokenizer = PairTokenizer.from_file(folder / TOKENIZER_FILE, card.max_length, card.pad_id, card.prompt)
        prior = _read_prior(folder) if card.head.prior else None
        return cls(card.task, card.format, tokenizer, card.head.overlap, prior)

    @property
    def reads_features(self) -> bool:
        """Whether the model reads any features beside the tokens."""
        return self.overlap or self.prior is not None

    def encode(self, pairs: Sequence[Pair], priors: Sequence[PriorFeatures] | None = None) -> list[TokenizedPair]:
        """Return the pairs as the model reads them. `priors` replace those of the table: out-of-fold ones in training.

        Each different text is tokenised once.
        """
        queries = {key: self.query(*key) for key in dict.fromkeys((pair.query, pair.language) for pair in pairs)}
        candidates = {text: self.candidate(text) for text in dict.fromkeys(pair.candidate for pair in pairs)}
        read = [(*queries[pair.query, pair.language], *candidates[pair.candidate]) for pair in pairs]
        tokens = self.tokenizer.encode_pairs([(query, candidate) for query, _, candidate, _ in read])
        if not self.reads_features:
            return tokens
        if priors is not None:
            read = [(*each[:3], replace(each[3], prior=prior)) for each, prior in zip(read, priors, strict=True)]
        features = [candidate.with_query(letters) for _, letters, _, candidate in read]
        return [replace(pair, features=each) for pair, each in zip(tokens, features, strict=True)]

    def columns(
        self, queries: Sequence[str], candidates: Sequence[str], languages: Sequence[str], kept: TextCache
    ) -> TokenColumns:
        """Return N pairs, given as columns, as `encode` does. Texts that `kept` has are not read again."""
        first, query_keys = _places(zip(queries, languages, strict=True))
        second, candidate_keys = _places(candidates)
        texts = self._read([*query_keys, *candidate_keys], kept)
        second += len(query_keys)
        features = np.zeros((len(first), 0), dtype=np.float32)
        if self.reads_features:
            both = zip(first.tolist(), second.tolist(), strict=True)
            found = [texts[candidate].features.with_query(texts[query].features) for query, candidate in both]
            features = np.array(found, dtype=np.float32)
        return TokenColumns.join(self.tokenizer, [text.ids for text in texts], first, second, features)

    def _read(self, keys: Sequence[Key], kept: TextCache) -> list[ReadText]:
        """Return the texts of different keys."""
        found = kept.get(keys)
        missing = [key for key, text in zip(keys, found, strict=True) if text is None]
        fresh: dict[Key, ReadText] = {}
        for start in range(0, len(missing), TOKENIZED_AT_ONCE):
            some = missing[start : start + TOKENIZED_AT_ONCE]
            read = [self.candidate(key) if isinstance(key, str) else self.query(*key) for key in some]
            ids = self.tokenizer.encode_texts([text for text, _ in read])
            for key, each, (_, features) in zip(some, ids, read, strict=True):
                fresh[key] = ReadText(np.array(each, dtype=np.int32), features)
        kept.put(fresh)
        return [fresh[key] if text is None else text for key, text in zip(keys, found, strict=True)]

    def findings(self, pairs: Sequence[Pair]) -> tuple[str, ...]:
        """Return what is wrong with the category prior for these pairs: their taxonomy is another one."""
        if self.prior is None or len(pairs) < MIN_PAIRS:
            return ()
        known = {text: self.prior.knows(self.format.levels(text)) for text in {pair.candidate for pair in pairs}}
        share = sum(not known[pair.candidate] for pair in pairs) / len(pairs)
        if share <= MAX_UNKNOWN_SHARE:
            return ()
        return (
            f"all pairs: no level of {share:.0%} of {len(pairs)} category paths is in the table of the category prior, "
            "which is of another taxonomy or separator; train on rows of this one, or use --without-prior of export",
        )

    def texts(self, pair: Pair) -> tuple[str, str]:
        """Return both texts of a pair, as they are tokenised."""
        return self.query(pair.query, pair.language)[0], self.candidate(pair.candidate)[0]

    def query(self, query: str, language: str) -> tuple[str, QueryLetters | None]:
        """Return a query's text, and what it contributes to the features of its pairs."""
        text = f"{self.tokenizer.leads[0]}{self.format.query_text(query, language)}{self.tokenizer.query_tail}"
        return text, QueryLetters.of(query) if self.overlap else None

    def candidate(self, candidate: str) -> tuple[str, CandidateFeatures]:
        """Return a candidate's text, and what it contributes to the features of its pairs."""
        lead = self.tokenizer.leads[1]
        if not self.reads_features:
            return f"{lead}{self.format.candidate_text(self.task, candidate)}", NO_FEATURES
        if self.task is not Task.QC:
            letters = CandidateLetters.of(candidate) if self.overlap else None
            return f"{lead}{self.format.candidate_text(self.task, candidate)}", CandidateFeatures(letters)
        levels = self.format.levels(candidate)
        letters = CandidateLetters.of(" ".join(levels)) if self.overlap else None
        prior = () if self.prior is None else self.prior.features(levels)
        return f"{lead}{self.format.path_text(levels)}", CandidateFeatures(letters, prior)


def _places(keys: Iterable[Key]) -> tuple[NDArray[np.int64], list[Key]]:
    """Return the place of each key among the different ones, and these."""
    different: dict[Key, int] = {}
    places = [different.setdefault(key, len(different)) for key in keys]
    return np.array(places, dtype=np.int64), list(different)


def _read_prior(folder: Path) -> CategoryPrior:
    path = folder / PRIOR_FILE
    try:
        return CategoryPrior.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"checkpoint {folder}: {PRIOR_FILE}: {error.strerror}; its card says that the model reads a category prior"
        ) from None
    except ValidationError as error:
        raise CheckpointError(f"checkpoint {folder}: {PRIOR_FILE} is damaged: {explain(error)}") from None
