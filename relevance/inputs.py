"""From pairs of text to what a model reads. The one place for training, export, scorer and service.

The format makes two texts of a pair, the tokeniser makes token ids of them, and the category prior adds its numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import ValidationError

from relevance.card import TOKENIZER_FILE, ModelCard, explain
from relevance.errors import CheckpointError
from relevance.formatting import PairFormat
from relevance.prior import PRIOR_FILE, CategoryPrior, PriorFeatures
from relevance.soundness import MIN_PAIRS
from relevance.tasks import Pair, Task
from relevance.tokenization import PairTokenizer, TokenizedPair

MAX_UNKNOWN_SHARE = 0.5  # with a larger share of unknown categories, the table is of another taxonomy


@dataclass(frozen=True, slots=True)
class PairInputs:
    """How a model reads pairs; `prior` is None for a model without a category prior."""

    task: Task
    format: PairFormat
    tokenizer: PairTokenizer
    prior: CategoryPrior | None = None

    @classmethod
    def from_checkpoint(cls, folder: Path, card: ModelCard) -> Self:
        """Read the tokenizer and the prior of a checkpoint. Raises InputError or CheckpointError naming the file."""
        tokenizer = PairTokenizer.from_file(folder / TOKENIZER_FILE, card.max_length, card.pad_id)
        return cls(card.task, card.format, tokenizer, _read_prior(folder) if card.head.prior else None)

    def encode(self, pairs: Sequence[Pair], priors: Sequence[PriorFeatures] | None = None) -> list[TokenizedPair]:
        """Return the pairs as the model reads them. `priors` replace those of the table: out-of-fold ones in training.

        Each different text is tokenised once.
        """
        read = {text: self.candidate(text) for text in dict.fromkeys(pair.candidate for pair in pairs)}
        texts = [(self.format.query_text(pair.query, pair.language), read[pair.candidate][0]) for pair in pairs]
        if priors is None and self.prior is not None:
            priors = [read[pair.candidate][1] for pair in pairs]
        return self.tokenizer.encode_pairs(texts, priors)

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

    def candidate(self, candidate: str) -> tuple[str, PriorFeatures]:
        """Return a candidate's text, and what the category prior says of it; () for a model without one."""
        if self.prior is None:
            return self.format.candidate_text(self.task, candidate), ()
        levels = self.format.levels(candidate)
        return self.format.path_text(levels), self.prior.features(levels)


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
