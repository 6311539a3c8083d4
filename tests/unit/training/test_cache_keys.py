"""The keys of what outlasts a run (embeddings, judges' scores, translations) hold each field that shapes a result."""

import shutil
from dataclasses import replace

import pytest

from relevance.tasks import LabeledPair, Pair
from tests.models import tiny_model
from training.data.provenance import fingerprint
from training.fitting.recipe import Recipe
from training.models.base.base_models import resolve_base_model
from training.models.encoder_embedder import EncoderEmbedder
from training.selfvalidation.options import Judge
from training.selfvalidation.outoffold import _Judge
from training.translation.backends.openai import OpenAITranslator
from training.translation.backends.openai_options import SHAPING, OpenAIOptions

URL = "http://127.0.0.1:9/v1"
OPTIONS = {"model": "m", "url": URL, "price_per_million_prompt": 1.0, "budget_money": 1.0}
OTHER_OPTIONS = {
    "model": "n",
    "url": "http://127.0.0.1:10/v1",
    "api_key_variable": None,
    "texts_per_request": 3,
    "concurrency": 2,
    "timeout_seconds": 5.0,
    "attempts": 1,
    "text_attempts": 5,
    "temperature": 0.7,
    "tokens_per_text": 12,
    "extra_body": {"top_p": 0.5},
    "max_tokens_field": "max_completion_tokens",
    "budget_requests": 9,
    "budget_tokens": 9,
    "budget_money": 2.0,
    "price_per_million_prompt": 3.0,
    "price_per_million_completion": 3.0,
}


def openai_key(**changes):
    translator = OpenAITranslator(OpenAIOptions(**OPTIONS | changes))
    translator.close()
    return translator.key


@pytest.mark.parametrize("field", OpenAIOptions.model_fields)
def test_options_that_shape_answers_are_in_the_key_of_translations(field):
    changed = openai_key(**{field: OTHER_OPTIONS[field]}) != openai_key()
    assert changed == (field in SHAPING)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_embeddings_depend_on_model_tokenizer_and_lengths(base, tmp_path):
    first = EncoderEmbedder(str(base)).key
    assert EncoderEmbedder(str(base)).key == first
    assert EncoderEmbedder(str(base), max_length=8).key != first
    assert EncoderEmbedder(str(base), batch_size=2).key != first
    for name in ("config.json", "tokenizer.json"):
        other = tmp_path / name
        shutil.copytree(base, other)
        (other / name).write_text((other / name).read_text() + "\n")
        assert EncoderEmbedder(str(other)).key != first
    assert EncoderEmbedder(str(tiny_model(tmp_path / "seeded", seed=7))).key != first


ROWS = [[LabeledPair(Pair("red cup", "home,cups", "en"), 1, "1")]] * 3
CHANGES = {
    "name": {"name": "another"},
    "task": {"task": "qi"},
    "seed": {"seed": 1},
    "encoder": {"encoder": {"layers": 1}},
    "format": {"format": {"candidate_prefix": "category: "}},
    "head": {"head": {"width": 8}},
    "training": {"training": {"epochs": 3}},
    "prompt": {"head": {"kind": "yes_no"}, "prompt": {"steps": True}},
    "lora": {"lora": {"rank": 4}},
}


def judge_key(kind, base, revision="1", rows=ROWS, **changes):
    content = {"name": "r", "task": "qc", "base_model": str(base)} | changes
    return _Judge(kind, Recipe.model_validate(content), revision, base).key(fingerprint(rows=rows))


@pytest.mark.parametrize("field", CHANGES)
def test_judges_scores_depend_on_what_their_kind_reads(base, field):
    fields = set(Recipe.model_fields) - {"base_model"}
    assert set(CHANGES) == fields
    read = {Judge.PROBE: {"task", "seed", "format"}, Judge.CROSSENCODER: fields - {"name"}}
    for kind, needed in read.items():
        assert (judge_key(kind, base, **CHANGES[field]) != judge_key(kind, base)) == (field in needed), kind


@pytest.mark.parametrize("kind", list(Judge))
def test_judges_scores_depend_on_rows_and_model(base, kind):
    first = judge_key(kind, base)
    assert judge_key(kind, base, revision="2") != first
    other = [replace(ROWS[0][0], label=0)]
    extras = ({"label_weight": 0.5}, {"label_share": 0.5}, {"label_share": 0.5, "label_weight": 0.5})
    changed = [other, *([replace(ROWS[0][0], extra=extra)] for extra in extras)]
    assert len({first, *(judge_key(kind, base, rows=[rows, *ROWS[1:]]) for rows in changed)}) == 5


def test_the_revision_of_a_folder_is_its_content(base, tmp_path):
    shutil.copytree(base, tmp_path / "moved")
    assert resolve_base_model(str(tmp_path / "moved")).revision == resolve_base_model(str(base)).revision
