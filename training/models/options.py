"""Options of a cross-encoder's parts, for recipes; imports no torch."""

from pathlib import Path
from typing import Self

from pydantic import Field

from relevance.model.heads import HeadKind
from relevance.storage.strict import OptionsModel
from relevance.tasks import Task
from relevance.text.prompt import Prompt, default_prompt


class HeadOptions(OptionsModel):
    """How hidden states become a logit; see relevance.model.heads."""

    kind: HeadKind = HeadKind.PAIRED
    width: int = Field(64, gt=0)
    landmarks: int = Field(
        16384, gt=0, description="training pairs that a kernel head compares a pair with; a sample where there are more"
    )
    overlap: bool | None = Field(
        None, description="read the lexical overlap of query and candidate; absent: yes, if the head reads features"
    )
    prior: bool | None = Field(
        None,
        description="read the category prior of the training rows; absent: yes for QC, if the head reads features",
    )
    dropout: float = Field(0.1, ge=0, lt=1)

    def fitted(self, rows: int) -> Self:
        """Return the options for so many training rows: a kernel head has no more landmarks than rows."""
        if self.kind is not HeadKind.KERNEL:
            return self
        return self.model_copy(update={"landmarks": min(self.landmarks, rows)})


class PromptOptions(OptionsModel):
    """What a language model is asked (head.kind yes_no); see relevance.text.prompt."""

    text: str | None = Field(
        None,
        description="the whole prompt; `{query}` and `{candidate}` stand in it once each, in this order; absent: a "
        "question of the task",
    )
    steps: bool = Field(False, description="begin the question of the task with a four-step instruction")
    yes: str = Field(" yes", description="the answer of label 1; one token after the prompt")
    no: str = Field(" no", description="the answer of label 0; one token after the prompt")

    def decided(self, task: Task) -> Prompt:
        """Return the prompt. ValueError where the text lacks a place, or there are two texts."""
        if self.text is not None and self.steps:
            raise ValueError("prompt.steps = true beside prompt.text: expected one of them")
        text = default_prompt(task, steps=self.steps) if self.text is None else self.text
        return Prompt(text=text, yes=self.yes, no=self.no)


class LoraOptions(OptionsModel):
    """Low-rank adapters in place of training all weights; see training.models.lora."""

    rank: int = Field(
        0, ge=0, description="rank of the adapters on all linear layers; 0: no adapters, all weights learn"
    )
    alpha: float | None = Field(None, gt=0, description="adapters count alpha / rank times; absent: twice the rank")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the adapters")
    load_in_4bit: bool = Field(
        False, description="hold the frozen weights of all linear layers in 4-bit NF4 while the adapters learn (QLoRA)"
    )
    start: Path | None = Field(None, description="begin with the adapters of this folder, of the same base model")

    @property
    def decided_alpha(self) -> float:
        """The alpha given, or twice the rank."""
        return 2.0 * self.rank if self.alpha is None else self.alpha
