"""How the base model of a run is cut, by its recipe and its training rows."""

from collections.abc import Iterator, Sequence
from itertools import chain

from relevance.tasks import LabeledPair, Pair
from training.data.stored.rows import batches_of
from training.fitting.recipe import Recipe
from training.models.base.prepared import EncoderOptions


def encoder_options(recipe: Recipe, rows: Sequence[LabeledPair]) -> EncoderOptions:
    """Return what is cut. Texts of dev do not count for the vocabulary: metrics on dev hold for unseen texts."""
    section, prompt = recipe.encoder, recipe.decided_prompt
    if not section.trim_vocabulary:
        return EncoderOptions(section.layers, prompt=prompt)
    corpus = chain(_texts(recipe, rows), prompt.texts if prompt else ())
    return EncoderOptions(section.layers, corpus, section.trim_scripts, section.whole_scripts, prompt)


def _texts(recipe: Recipe, rows: Sequence[LabeledPair]) -> Iterator[str]:
    """Yield the texts of all pairs, as they are tokenised."""
    for batch in batches_of(rows):
        columns = (batch.column(name).to_pylist() for name in ("query", "candidate", "language"))
        for pair in map(Pair, *columns):
            yield from recipe.format.texts(recipe.task, pair)
