from pathlib import Path

import pytest

from relevance.errors import ConfigError
from relevance.heads import HeadKind
from training.pipeline.recipe import PipelineRecipe
from training.recipe import Recipe

CONFIGS = Path(__file__).parents[2] / "configs"


def write(tmp_path, text):
    path = tmp_path / "r.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_recipe_is_valid(path):
    recipe = PipelineRecipe.load(path)
    assert recipe.task in path.stem
    assert recipe.fine_tuning().training == recipe.training


def test_unknown_keys_and_bad_values_are_all_named(tmp_path):
    path = write(tmp_path, 'name = "x"\ntask = "qx"\nlearning_rate = 1\n[training]\nepoch = 3\nbatch_size = 0\n')
    with pytest.raises(ConfigError) as error:
        Recipe.load(path)
    for part in (str(path), "task", "'qc' or 'qi'", "learning_rate", "training.epoch", "training.batch_size", "got 0"):
        assert part in str(error.value)


@pytest.mark.parametrize("text", ["name = ", "\xff"])
def test_what_is_no_toml_is_said_so(tmp_path, text):
    path = tmp_path / "r.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="expected TOML"):
        Recipe.load(path)


def test_missing_recipe(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        Recipe.load(tmp_path / "absent.toml")


def test_overrides(tmp_path):
    path = write(tmp_path, 'name = "x"\ntask = "qc"\n')
    recipe = Recipe.load(path, ["training.epochs=3", "head.kind=mean", 'base_model="a/b"', "encoder.layers = 2"])
    assert (recipe.training.epochs, recipe.head.kind, recipe.base_model) == (3, HeadKind.MEAN, "a/b")
    assert recipe.encoder.layers == 2


@pytest.mark.parametrize("override", ["epochs", "=3", "name.deeper=1", "training.nope=1"])
def test_bad_overrides_are_named(tmp_path, override):
    path = write(tmp_path, 'name = "x"\ntask = "qc"\n')
    with pytest.raises(ConfigError, match=r"override|nope"):
        Recipe.load(path, [override])
