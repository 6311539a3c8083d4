import pytest

from relevance.errors import ConfigError
from relevance.model.heads import HeadKind
from tests import ROOT
from training.fitting.recipe import Recipe
from training.pipeline.recipe import PipelineRecipe, load_fine_tuning

CONFIGS = ROOT / "configs"


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
    for part in (
        str(path),
        "task",
        "'qi' or 'rerank'",
        "learning_rate",
        "training.epoch",
        "training.batch_size",
        "got 0",
    ):
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


@pytest.mark.parametrize("wrong", [["training.epochs=1"], ["training.epochs=0", "lora.rank=4"]])
def test_a_kernel_head_is_not_trained_in_steps(tmp_path, wrong):
    path = write(tmp_path, 'name = "x"\ntask = "qc"\n[head]\nkind = "kernel"\n')
    Recipe.load(path, ["training.epochs=0"])
    with pytest.raises(ConfigError, match=r"r\.toml: head\.kind = kernel beside training.*or head\.kind = paired$"):
        Recipe.load(path, wrong)


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


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.epoch=3", "training.epochs in place of training.epoch"),
        ("epochs=3", "training.epochs in place of epochs"),
        ("filter.seed=1", "filtering in place of filter"),
        ("filtering.sead=1", "filtering.seed in place of filtering.sead"),
        ("translation.gates.similarty=0.5", "translation.gates.similarity in place of translation.gates.similarty"),
        ("nam=x", "name in place of nam"),
    ],
)
def test_unknown_keys_come_with_what_was_meant(tmp_path, override, meant):
    path = write(tmp_path, 'name = "x"\ntask = "qc"\n')
    with pytest.raises(ConfigError, match=f"did you mean {meant}"):
        PipelineRecipe.load(path, [override])


def test_a_key_like_no_other_has_no_suggestion(tmp_path):
    path = write(tmp_path, 'name = "x"\ntask = "qc"\nzzzz = 1\n')
    with pytest.raises(ConfigError) as error:
        PipelineRecipe.load(path)
    assert "did you mean" not in str(error.value)


def test_a_key_given_twice_is_refused(tmp_path):
    path = write(tmp_path, 'name = "x"\ntask = "qc"\n')
    assert Recipe.load(path, ["seed=1", "seed = 1"]).seed == 1
    with pytest.raises(ConfigError, match="seed: given twice, as 1 and as 2"):
        Recipe.load(path, ["seed=1", "seed=2"])


def test_overrides_that_training_alone_would_not_read_are_refused(tmp_path):
    path = write(tmp_path, 'name = "x"\ntask = "qc"\n[filtering]\nseed = 1\n')
    assert load_fine_tuning(path, ["training.epochs=3"]).training.epochs == 3
    with pytest.raises(ConfigError, match="filtering is of `relevance pipeline run`"):
        load_fine_tuning(path, ["filtering.seed=1"])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ('settings = { seed = 3 }\nmodels = [{ judge = "crossencoder" }]', "settings hold seed"),
        ("settings = { training = { epochs = 1 } }", "which read base_model alone"),
    ],
)
def test_settings_of_judges_that_nothing_would_read_are_refused(tmp_path, section, message):
    path = write(tmp_path, f'name = "x"\ntask = "qc"\n[filtering]\n{section}\n')
    with pytest.raises(ConfigError, match=message):
        PipelineRecipe.load(path)
