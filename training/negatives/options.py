"""What negatives to make and how many: the options of the stage."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from relevance.languages import LanguageCode
from relevance.storage.strict import StrictModel

Strategy = Literal["none", "random", "easy", "hard", "mixed"]

# As in the competition's data: QC has 31 % negatives, QI 38 %.
DEFAULT_NEGATIVE_RATE = 0.35


class NegativeOptions(StrictModel):
    """Which candidates become negatives of a query, and how many negatives each language gets.

    `easy` and `hard` draw from a band of similarity to the query. Where no band is given, it lies between quantiles of
    the query's own similarities to all candidates, since cosines differ by encoder and by the query's language: from
    .30 to .80 for `easy`; above .80 for `hard`, and of these the nearest below the positive's share, 5 % of all.
    `mixed` draws from both. `random` draws from all candidates, with neither band nor positive share: it is the
    control. The rules of what is never a negative hold for all.

    Of more than 8,192 candidates `random` and `easy` see a sample of so many. `hard` sees all up to `exact_up_to`; of
    more, the `nearest` by an index, and where none of these is below the positive's share, a sample too.

    Cosines are centred: E5's vectors all lie near one direction, so that of 802 positive QC rows 88 % had no candidate
    above the .80 quantile and below .95 of the positive's plain cosine, and 25 % of the centred one.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    strategy: Strategy = Field(
        "easy",
        description="which candidates become negatives; of published teams, one gained by easy ones and lost by hard "
        "ones, another gained by near ones",
    )
    negative_rate: float | None = Field(
        None, gt=0, lt=1, description=f"negatives among all rows of each language; absent: {DEFAULT_NEGATIVE_RATE}"
    )
    language_rates: dict[LanguageCode, Annotated[float, Field(gt=0, lt=1)]] = Field(
        {}, description="rate of one language, in place of negative_rate", examples=["de=0.4"]
    )
    per_positive: int | None = Field(None, gt=0, description="negatives to make of each positive, in place of a rate")
    most_per_positive: int = Field(8, gt=0, description="with a rate: so that no query is drowned in negatives")
    centred: bool = Field(
        True,
        description="cosines of vectors less the mean of their side; false: plain ones, as NV-Retriever has them",
    )
    band_low: float | None = Field(
        None, ge=-1, le=1, description="least centred cosine to the query; absent: a quantile"
    )
    band_high: float | None = Field(
        None, ge=-1, le=1, description="greatest centred cosine to the query; absent: a quantile"
    )
    positive_share_limit: float = Field(
        0.95,
        gt=0,
        le=1,
        description="a negative's similarity is below this share of the positive's; .95 as in NV-Retriever",
    )
    hard_share: float = Field(0.5, gt=0, lt=1, description="with mixed: share of the hard ones")
    near_title: float = Field(
        0.85, gt=0, le=1, description="QI: titles whose bigrams' F1 is so high are one product, or variants of it"
    )
    near_query: float = Field(
        0.85,
        gt=0,
        le=1,
        description="centred cosine from which two queries with the same numbers mean the same: positives of one "
        "are no negatives of the other (`iphone 12 case` and `cases` have .96, `red shoes` and `blue shoes` .41)",
    )
    vet_margin: float = Field(
        0.0,
        ge=0,
        description="logits by which a negative has to be below its positive by the vetting model; more is stricter",
    )
    exact_up_to: int = Field(
        100_000,
        ge=0,
        description="candidates that hard compares with all; above, an index finds the nearest (HNSW, by usearch)",
    )
    nearest: int = Field(128, gt=0, description="candidates that the index finds for hard to choose from")
    seed: int = Field(0, ge=0, description="seed of the choice of negatives")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.per_positive is not None and (self.negative_rate is not None or self.language_rates):
            raise ValueError("a negative rate and per_positive are both given; expected one of them")
        if self.has_band and self.strategy not in ("easy", "hard"):
            raise ValueError(f"a band is given with strategy {self.strategy!r}; expected easy or hard with a band")
        if self.has_band and self.band[0] >= self.band[1]:
            raise ValueError(f"band_low {self.band[0]:g} and band_high {self.band[1]:g}: expected low below high")
        return self

    @property
    def has_band(self) -> bool:
        """Whether the band is given in cosines."""
        return self.band_low is not None or self.band_high is not None

    @property
    def band(self) -> tuple[float, float]:
        """The band in cosines; an end that is not given is open."""
        return (
            -1.0 if self.band_low is None else self.band_low,
            1.0 if self.band_high is None else self.band_high,
        )

    @property
    def source_limit(self) -> int:
        """Most negatives that one positive row can get."""
        return self.per_positive or self.most_per_positive

    def wanted(self, language: str, positives: int, negatives: int) -> int:
        """Return how many more negatives a language with these rows of each label needs."""
        if self.per_positive is not None:
            return self.per_positive * positives
        rate = self.language_rates.get(
            language, DEFAULT_NEGATIVE_RATE if self.negative_rate is None else self.negative_rate
        )
        return max(round(positives * rate / (1 - rate)) - negatives, 0)
