"""The command `score`."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from relevance.errors import ConfigError
from training.commands.flat import Fields, checked, flattened
from training.commands.options import ROWS_HELP, Output
from training.scoring.options import ScoreOptions, ServedOptions

LOCAL = ("device", "threads", "max_batch_tokens", "ray")  # options of a model that runs here


class Serving(ServedOptions):
    """The options of requests; model and URL come with --endpoint."""

    url: str = "http://url"
    endpoint: str | None = Field(
        None,
        description="URL, or NAME@URL, of a vLLM that serves BUNDLE, one of `export --kind safetensors`: "
        "http://host:8000; options of requests and budgets need it",
    )


@flattened
def score(
    bundle: Annotated[Path, typer.Argument(help="A folder written by `relevance export`.")],
    file: Annotated[Path, typer.Argument(help=f"{ROWS_HELP} Labels may be absent.")],
    out: Annotated[Path, typer.Argument(help="The file to make; its extension sets the format.")],
    options: Annotated[
        ScoreOptions,
        Fields(
            "reading",
            "submission",
            "prefix",
            "device",
            "threads",
            "max_batch_tokens",
            "shard_rows",
            "ray",
            "actors",
            "actor_gpus",
            "skip_bad_rows",
        ),
    ],
    serving: Annotated[
        Serving,
        Fields(
            *("endpoint", "request_pairs", "concurrency", "timeout_seconds", "attempts", "api_key_variable"),
            *("budget_requests", "budget_tokens", "budget_money", "price_per_million_prompt", "extra_body"),
        ),
    ],
    output: Output,
) -> None:
    """Score a file. The output has all its fields, plus score, label_predicted, truncated and model_version.

    To resume an interrupted run, repeat the command.
    """
    chosen = options.model_copy(update={"overwrite": output.overwrite})
    if serving.endpoint is None:
        from training.scoring.run import score_file

        if serving != Serving():
            raise ConfigError("options of requests and budgets: expected with --endpoint only")
        output.report(score_file(bundle, file, out, chosen), out)
        return
    from training.endpoint.options import model_and_url
    from training.scoring.served import score_served

    if any(getattr(options, name) != ScoreOptions.model_fields[name].default for name in LOCAL):
        raise ConfigError("--device, --threads, --max-batch-tokens and --ray: expected without --endpoint")
    name, url = model_and_url(serving.endpoint)
    asked = checked(ServedOptions, serving.model_dump(exclude={"endpoint"}) | {"model": name, "url": url})
    output.report(score_served(bundle, asked, file, out, chosen), out)
