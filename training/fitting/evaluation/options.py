"""Options of calibration and threshold tuning, for recipes; imports no torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from relevance.storage.strict import OptionsModel


class CalibrationOptions(OptionsModel):
    """What is tuned on dev after training."""

    platt: bool = Field(True, description="scale and shift logits so that scores are probabilities (Platt 1999)")
    threshold: float | Literal["tuned"] = Field("tuned", description="tuned: the one of best F1 on dev")
    by_language: bool = Field(
        False,
        description="shift the logits of each language by its dev labels; few rows shift little (empirical Bayes)",
    )

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if self.threshold != "tuned" and not 0 < self.threshold < 1:
            raise ValueError(f"threshold {self.threshold}: expected a number in (0, 1), or tuned")
        return self
