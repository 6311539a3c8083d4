"""The command `ask`."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from relevance.errors import ConfigError
from relevance.tasks import Task
from training.commands.flat import Fields, checked, flattened
from training.commands.options import ROWS_HELP, Output
from training.scoring.options import AskOptions, ScoreOptions


class Options(AskOptions):
    """The options of the command; MODEL@URL is its argument."""

    model: str = "model"
    url: str = "http://url"
    task: Task = Field(description="qc: query and category path; qi: query and item title; rerank: any document")
    cache: Path | None = Field(None, description="answers on disk; absent: OUT.answers.sqlite")


@flattened
def ask(
    model: Annotated[
        str, typer.Argument(help="MODEL@URL of an OpenAI-compatible endpoint: qwen3@http://host:8000/v1.")
    ],
    file: Annotated[Path, typer.Argument(help=f"{ROWS_HELP} Labels may be absent.")],
    out: Annotated[Path, typer.Argument(help="The file to make; its extension sets the format.")],
    asking: Annotated[
        Options,
        Fields(
            *("task", "cache", "api", "steps", "text", "yes", "no", "top_logprobs"),
            *("budget_requests", "budget_tokens", "budget_money", "price_per_million_prompt"),
            *("price_per_million_completion", "api_key_variable", "concurrency", "timeout_seconds", "attempts"),
            *("extra_body", "max_tokens_field"),
        ),
    ],
    options: Annotated[ScoreOptions, Fields("reading", "prefix", "shard_rows", "skip_bad_rows")],
    output: Output,
) -> None:
    """Score a file by a model behind an endpoint that answers yes or no, or ranks: a teacher for `teacher` of a recipe.

    No pair is paid for twice: to resume an interrupted run, or one whose budget is spent, repeat the command.
    """
    from training.endpoint.options import model_and_url
    from training.scoring.asking.run import ask_file

    name, url = model_and_url(model)
    if not (name and url):
        raise ConfigError(f"model {model!r}: expected MODEL@URL, as in qwen3@http://127.0.0.1:8000/v1")
    given = asking.model_dump(exclude={"task", "cache"}) | {"model": name, "url": url}
    chosen = options.model_copy(update={"overwrite": output.overwrite})
    output.report(ask_file(checked(AskOptions, given), asking.task, file, out, chosen, asking.cache), out)
