"""The prompt of a language model that answers a pair with one word: yes or no. Knows no tokens and no models.

The seed paper (arXiv 2510.21671) scores a pair with the probability of `yes` among the two answers. The texts here are
this project's own.
"""

from typing import Self

from pydantic import Field, model_validator

from relevance.storage.strict import StrictModel
from relevance.tasks import Task

QUERY, CANDIDATE = "{query}", "{candidate}"
ASKED = {
    Task.QC: f"Query: {QUERY}\nCategory: {CANDIDATE}\nDoes the category fit the query, yes or no?\nAnswer:",
    Task.RERANK: f"Query: {QUERY}\nDocument: {CANDIDATE}\nIs the document relevant to the query, yes or no?\nAnswer:",
    Task.QI: f"Query: {QUERY}\nItem: {CANDIDATE}\nDoes the item answer the query, yes or no?\nAnswer:",
}
# After the four steps of a sibling system (arXiv 2601.05259): translate, intent, match, judge.
STEPS = {
    Task.RERANK: "Judge whether a document is relevant to a search query.\n1. Translate the query into English.\n2. "
    "Find out what the user wants.\n3. Compare it with the document.\n4. Judge: yes if it is relevant, else no.\n",
    Task.QC: "Judge whether a category fits a search query.\n1. Translate the query into English.\n2. Find out what "
    "the user wants.\n3. Compare it with the category path.\n4. Judge: yes if the category fits, else no.\n",
    Task.QI: "Judge whether an item answers a search query.\n1. Translate the query and the item into English.\n2. "
    "Find out what the user wants.\n3. Compare it with the item: kind, brand, model, size.\n4. Judge: yes if the item "
    "is what the user wants, else no.\n",
}


class Prompt(StrictModel):
    """The text around a query and a candidate, and the two words between which the model chooses."""

    text: str = Field(description="the whole prompt; {query} and {candidate} stand in it once each, in this order")
    yes: str = Field(" yes", min_length=1, description="the answer of label 1: one token after the prompt")
    no: str = Field(" no", min_length=1, description="the answer of label 0: one token after the prompt")
    breaks_with_query: bool = Field(
        False,
        description="line breaks behind the query are tokenised with it, as in one text: models trained elsewhere",
    )

    @model_validator(mode="after")
    def _has_both_places(self) -> Self:
        once = self.text.count(QUERY) == self.text.count(CANDIDATE) == 1
        if not once or self.text.index(QUERY) > self.text.index(CANDIDATE):
            raise ValueError(f"prompt {self.text!r}: expected {QUERY} and {CANDIDATE}, once each, in this order")
        if self.yes == self.no:
            raise ValueError(f"both answers are {self.yes!r}: expected two different words")
        return self

    @property
    def parts(self) -> tuple[str, str, str]:
        """The texts before the query, between query and candidate, and after the candidate."""
        before, _, rest = self.text.partition(QUERY)
        between, _, after = rest.partition(CANDIDATE)
        return before, between, after

    @property
    def query_tail(self) -> str:
        """The line breaks behind the query that are tokenised with it: many vocabularies join them to a sign (`?`)."""
        between = self.parts[1]
        return between[: len(between) - len(between.lstrip("\r\n"))] if self.breaks_with_query else ""

    @property
    def texts(self) -> tuple[str, ...]:
        """The parts as they are tokenised; the last one with either answer. Spaces before a text belong to it."""
        before, between, after = self.parts
        between = between.removeprefix(self.query_tail)
        return before.rstrip(" "), between.rstrip(" "), after + self.yes, after + self.no


def default_prompt(task: Task, *, steps: bool = False) -> str:
    """Return the text of the task's prompt, with a four-step instruction before it if `steps`."""
    return (STEPS[task] if steps else "") + ASKED[task]
