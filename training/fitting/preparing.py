"""How the base model of a run is cut, by its recipe and its training rows."""

from collections.abc import Sequence

from relevance.tasks import LabeledPair
from training.fitting.recipe import Recipe
from training.models.base.prepared import EncoderOptions


def encoder_options(recipe: Recipe, rows: Sequence[LabeledPair]) -> EncoderOptions:
    """Return what is cut. Texts of dev do not count for the vocabulary: metrics on dev hold for unseen texts."""
    section, prompt = recipe.encoder, recipe.decided_prompt
    if not section.trim_vocabulary:
        return EncoderOptions(section.layers, prompt=prompt)
    corpus = [text for row in rows for text in recipe.format.texts(recipe.task, row.pair)]
    corpus += prompt.texts if prompt else ()
    return EncoderOptions(section.layers, corpus, section.trim_scripts, section.whole_scripts, prompt)
