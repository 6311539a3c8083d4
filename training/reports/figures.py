"""The figures of the data report: what is counted of files of labelled rows."""

from pydantic import BaseModel, ConfigDict

from relevance.tasks import Task
from training.cleaning.tags import TagReport
from training.data.votes.merging import VoteReport
from training.reports.density import Density


class _Figures(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LanguageFigures(_Figures):
    """The rows of one language tag."""

    rows: int
    positive: int
    queries: int
    query_characters: dict[str, int]
    query_density: Density
    scripts: dict[str, int]


class Histogram(_Figures):
    """Counts of values in bins of one width; the last bin holds everything from its start on."""

    width: int
    counts: tuple[int, ...]


class FileFigures(_Figures):
    """One file. Lengths are in characters, of different queries and candidates; scripts are counted in letters."""

    name: str
    rows: int
    positive: int
    queries: int
    candidates: int
    languages: dict[str, LanguageFigures]
    query_lengths: Histogram
    candidate_lengths: Histogram
    candidate_density: Density
    depths: dict[int, int]
    votes: VoteReport
    tags: TagReport | None


class Leak(_Figures):
    """Queries that two files share, and how many rows of each they take with them."""

    first: str
    second: str
    queries: int
    first_rows: int
    second_rows: int
    examples: tuple[str, ...]


class DataReport(_Figures):
    """The report on one or several files of one task."""

    task: Task
    files: tuple[FileFigures, ...]
    leaks: tuple[Leak, ...]
