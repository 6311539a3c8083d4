"""The options of transfer."""

from pydantic import Field

from relevance.languages import LanguageCode
from relevance.storage.strict import StrictModel
from training.negatives.options import NegativeOptions

NEAREST, NEAR = 10, 100  # ranks of candidates by similarity: where most pairs are drawn, and where the next are


class TransferOptions(StrictModel):
    """Which pairs a teacher scores, and in which languages their rows are written."""

    targets: tuple[LanguageCode, ...] = Field(
        min_length=1,
        description="a language to write rows in; repeat",
    )
    source_language: LanguageCode = Field("en", description="the language of texts that the teacher reads")
    per_text: int = Field(
        8,
        gt=0,
        description=f"candidates a text: half of the nearest {NEAREST}, most of the rest of the next {NEAR - NEAREST}",
    )
    most_candidates: int = Field(
        16_384, gt=0, description="so many candidates are embedded and drawn from; of more, a sample"
    )
    languages_per_pair: int = Field(1, gt=0, description="languages in which a pair is written, drawn from the targets")
    seed: int = Field(0, ge=0, description="seed of candidates and languages")

    @property
    def drawn(self) -> tuple[int, int, int]:
        """How many candidates are drawn of the nearest, of the near ones, and of all."""
        nearest = (self.per_text + 1) // 2
        near = (self.per_text - nearest) * 3 // 4
        return nearest, near, self.per_text - nearest - near

    @property
    def search(self) -> NegativeOptions:
        """How the near candidates are found."""
        return NegativeOptions(strategy="hard", nearest=NEAR, seed=self.seed)
