"""The table of pipeline stages: every field of every section of a recipe, changed one by one, reaches the keys."""

import ast
import itertools
from enum import Enum
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from relevance.errors import ConfigError
from tests import ROOT
from tests.models import tiny_model
from training.pipeline.keys import ingredients, view
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.stages import STAGES

# Fields that are valid only beside others.
BESIDE = {
    "encoder.trim_scripts": {"encoder.trim_vocabulary": True},
    "encoder.whole_scripts": {"encoder.trim_vocabulary": True},
    "export.kind": {"head.kind": "stock"},
    "negatives.band_low": {"negatives.strategy": "hard"},
    "negatives.band_high": {"negatives.strategy": "hard"},
    "translation.source_language": {"translation.sources": "one", "translation.source_language": "de"},
    **{f"prompt.{name}": {"head.kind": "yes_no"} for name in ("text", "steps", "yes", "no")},
    **{f"lora.{name}": {"lora.rank": 4} for name in ("alpha", "dropout", "load_in_4bit", "start")},
    "filtering.settings": {"filtering.models": ({"judge": "crossencoder"},)},
}


def leaves(model, prefix=""):
    """Yield the dotted name and annotation of every field, those of sections within sections included."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", inner


def members(annotation):
    """Return the values that a type lists: those of literals and enumerations, wherever they stand in it."""
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return list(annotation)
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [value for part in get_args(annotation) for value in members(part)]


def changed(content, name, value):
    """Return nested content with one dotted field set."""
    head, _, rest = name.partition(".")
    return content | {head: changed(content.get(head, {}), rest, value) if rest else value}


def flat(recipe, name):
    for part in name.split("."):
        recipe = getattr(recipe, part)
    return recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    tiny_model(folder / "one")
    tiny_model(folder / "two", seed=5)
    for name in ("train.jsonl", "other.jsonl"):
        (folder / name).write_text(name)
    (folder / "memory.tsv").write_text("en\tde\nhat\thut\n")
    return folder


@pytest.fixture(scope="module")
def base(folder):
    """A recipe's content in which every strategy is on."""
    return {
        "name": "keys",
        "task": "qc",
        "base_model": str(folder / "one"),
        "data": {"train": [str(folder / "train.jsonl")]},
        "translation": {
            "enabled": True,
            "backends": [f"memory:{folder / 'memory.tsv'}"],
            "gates": {"similarity": None},
        },
        "negatives": {"enabled": True},
        "filtering": {"enabled": True},
        "transfer": {
            "enabled": True,
            "targets": ["fr"],
            "teacher": str(folder / "one"),
            "memories": [str(folder / "memory.tsv")],
        },
    }


def two_recipes(folder, base, name, annotation):
    """Return a recipe and one that differs in this field alone, the first of some values that is valid."""
    content = base
    for other, value in BESIDE.get(name, {}).items():
        content = changed(content, other, value)
    before = PipelineRecipe.model_validate(content)
    file, model = str(folder / "other.jsonl"), str(folder / "two")
    numbers = [True, False, 1, 2, 3, 5, 7, 0.3, 0.6, 0.9, 0.05, 0.99]
    texts = [model, "it", [file], file, ["de"], ["han"], [f"memory:{folder / 'memory.tsv'}"] * 2]
    texts += ["utf-16", ";", "E=1,I=0", "1:20", "Query: {query} Category: {candidate} Fits:"]
    maps = [{"en": 0.5}, {"search": "query"}, {"openai": {"concurrency": 8}}, {"training": {"epochs": 7}}]
    models = [[{"judge": "probe", "seed": 5}], [{"judge": "probe"}, {"judge": "probe", "seed": 1}]]
    listed = members(annotation)
    for value in itertools.chain(listed, ([each] for each in listed), numbers, maps, models, texts):
        try:
            after = PipelineRecipe.model_validate(changed(content, name, value))
        except (ValidationError, ConfigError):
            continue
        if flat(after, name) != flat(before, name):
            return before, after
    raise AssertionError(f"{name}: none of the values tried is valid; add one, or what it needs beside it")


def declares(stage, name):
    return any(name == read or name.startswith(f"{read}.") for read in STAGES[stage].reads)


@pytest.mark.parametrize(("name", "annotation"), list(leaves(PipelineRecipe)), ids=lambda value: str(value)[:40])
def test_each_field_changes_the_keys_of_the_stages_that_read_it(folder, base, name, annotation):
    before, after = two_recipes(folder, base, name, annotation)
    inputs = {"train.parquet": "0"}
    for stage in STAGES:
        keys = [ingredients(stage, recipe, inputs).key for recipe in (before, after)]
        assert (keys[0] != keys[1]) == declares(stage, name), f"{stage}: {keys}"


@pytest.mark.parametrize("name", [name for name, _ in leaves(PipelineRecipe)])
def test_each_field_is_declared_by_a_stage(name):
    assert any(declares(stage, name) for stage in STAGES)


def test_each_field_is_read_somewhere():
    read = set()
    for path in itertools.chain(*((ROOT / package).rglob("*.py") for package in ("training", "relevance"))):
        read |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    assert {name.rpartition(".")[2] for name, _ in leaves(PipelineRecipe)} - read == set()


def test_a_stage_sees_only_what_it_declares(base):
    recipe = PipelineRecipe.model_validate(base)
    assert view(recipe, "split").split == recipe.split
    assert view(recipe, "read").split.seed == recipe.split.seed
    with pytest.raises(AttributeError, match="'cleaning': not among those that this stage declares"):
        _ = view(recipe, "split").cleaning
    with pytest.raises(AttributeError, match="'dev'"):
        _ = view(recipe, "read").split.dev


@pytest.mark.parametrize(
    ("stage", "file"),
    [
        ("read", "train.jsonl"),
        ("translate", "memory.tsv"),
        ("mine", "one/config.json"),
        ("transfer", "memory.tsv"),
        ("transfer", "one/config.json"),
        ("train", "one/tokenizer.json"),
    ],
)
def test_the_content_of_files_counts(folder, base, stage, file):
    recipe = PipelineRecipe.model_validate(base)
    before = ingredients(stage, recipe, {}).key
    kept = (folder / file).read_bytes()
    (folder / file).write_bytes(kept + b" ")
    try:
        assert ingredients(stage, recipe, {}).key != before
    finally:
        (folder / file).write_bytes(kept)
