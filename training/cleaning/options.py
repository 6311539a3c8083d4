"""The options of cleaning in a recipe, with the reasons for their defaults."""

from enum import StrEnum

from pydantic import Field

from relevance.languages import LanguageCode
from relevance.storage.strict import StrictModel
from training.data.votes.contradictions import Contradictions


class Tags(StrEnum):
    """What to do with language tags that disagree with the query."""

    OFF = "off"
    REPORT = "report"
    UNK = "unk"
    FIX = "fix"


class CleaningOptions(StrictModel):
    """What is cleaned. Two runs with the same options and rows give the same rows."""

    normalize_text: bool = Field(True, description="entities, controls, invisible characters, NFKC, spaces")
    contradictions: Contradictions = Field(
        Contradictions.MERGE,
        description="pairs with votes for both labels; merge: one row, label by majority, 1 for a tie; majority: the "
        "same, ties left out; drop: all left out",
    )
    tags: Tags = Field(
        Tags.UNK,
        description="tags that disagree with the query: off, report, unk, or fix to the language found",
    )
    tag_confidence: float = Field(0.8, gt=0, le=1, description="detector's confidence that overrules a tag")
    short_tag_confidence: float = Field(0.95, gt=0, le=1, description="the same for queries of two words or fewer")
    shared_in: int = Field(3, ge=2, description="a word under so many tags is taken for a name and is not judged by")
    further_languages: tuple[LanguageCode, ...] = Field(
        (), description="languages to detect beside the tags that occur"
    )
