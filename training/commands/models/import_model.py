"""The command `import`."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.flat import Fields, flattened
from training.commands.options import Output
from training.importing.options import ImportOptions


@flattened
def import_model(
    model: Annotated[str, typer.Argument(help="A local folder or a hub id: classifier, language model, CrossEncoder.")],
    out: Annotated[Path, typer.Argument(help="The checkpoint folder to make; appears whole or not at all.")],
    options: Annotated[ImportOptions, Fields()],
    output: Output,
) -> None:
    """Turn a re-ranker that was trained elsewhere into a checkpoint, to export and serve like any other.

    Reads models of sentence-transformers (CrossEncoder) and of transformers: classifiers and language models that
    answer yes or no. Activation, labels, length and prompt come from their own files. Checks that logits agree.
    """
    from training.importing.checkpoint import import_reranker

    card = import_reranker(model, out, options, overwrite=output.overwrite)
    if output.as_json:
        print(card.model_dump_json(indent=2))
        return
    print(f"{out}: {card.task} {card.name}, {card.max_length} tokens a pair, licence {card.license}")
