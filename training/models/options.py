"""Options of a cross-encoder's parts, for recipes; imports no torch."""

from pydantic import BaseModel, ConfigDict, Field

from relevance.heads import HeadKind


class HeadOptions(BaseModel):
    """How hidden states become a logit; see relevance.heads."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: HeadKind = HeadKind.PAIRED
    width: int = Field(64, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
