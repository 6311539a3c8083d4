"""Options of a cross-encoder's parts, for recipes; imports no torch."""

from pydantic import Field

from relevance.heads import HeadKind
from relevance.strict import OptionsModel


class HeadOptions(OptionsModel):
    """How hidden states become a logit; see relevance.heads."""

    kind: HeadKind = HeadKind.PAIRED
    width: int = Field(64, gt=0)
    overlap: bool | None = Field(
        None, description="read the lexical overlap of query and candidate; absent: yes, unless kind is stock"
    )
    prior: bool | None = Field(
        None, description="read the category prior of the training rows (QC); absent: yes for QC, unless kind is stock"
    )
    dropout: float = Field(0.1, ge=0, lt=1)
