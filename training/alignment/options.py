"""The options of alignment."""

from pydantic import Field

from relevance.languages import LanguageCode
from relevance.storage.strict import StrictModel

KEPT_SHARE = 4  # one of so many source texts of a batch is held to its own vector
COSINE_WEIGHT = 2.0  # of what a vector's cosine lacks to 1, beside the contrastive loss
HELD_OUT_SHARE, MOST_HELD_OUT = 0.05, 500  # source texts that are only measured


class AlignmentOptions(StrictModel):
    """Which texts of a memory are aligned, and how the encoder is trained on them."""

    layers: int | None = Field(None, gt=0, description="keep the first N layers of the base model")
    source_language: LanguageCode = Field(
        "en", description="the language whose vectors stay, for units that do not say which text is the original"
    )
    most_pairs: int = Field(100_000, gt=0, description="so many pairs of a text and a translation; of more, a sample")
    epochs: int = Field(1, gt=0, description="passes over the pairs")
    batch_size: int = Field(64, ge=2, description="pairs of a step; each is contrasted with the others")
    max_length: int = Field(48, gt=2, description="tokens of a text; longer ones are cut")
    learning_rate: float = Field(3e-5, gt=0, le=1e-2, description="highest learning rate")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the rate rises")
    temperature: float = Field(0.05, gt=0, description="cosines are divided by it in the contrastive loss")
    seed: int = Field(0, ge=0, description="seed of samples, batches and dropout")
