import json

import pytest

from relevance.tasks import Task
from relevance.text.formatting import FORMAT_VERSION
from training.demo.parts import RECIPES, TASKS, Part


@pytest.fixture
def part(tmp_path):
    return Part.of(Task.QC, tmp_path, RECIPES)


def made(stage, **changes):
    recipe = stage.recipe.model_dump(mode="json") | {"format": {"path_separator": ","}}  # fitted to the rows
    stage.bundle.mkdir(parents=True)
    manifest = {"format_version": FORMAT_VERSION, "recipe": recipe | changes}
    (stage.bundle / "manifest.json").write_text(json.dumps(manifest))


def test_every_task_has_a_recipe_and_an_untuned_model_without_epochs(tmp_path):
    for task in TASKS:
        part = Part.of(task, tmp_path, RECIPES)
        assert part.tuned.recipe.task is task
        assert part.untuned.recipe.training.epochs == 0 < part.tuned.recipe.training.epochs
        assert part.untuned.recipe.name == f"demo-{task.value}-untuned"


def test_bundle_of_the_recipe_is_current(part):
    assert not part.tuned.is_exported
    made(part.tuned)
    assert part.tuned.is_exported


def test_bundle_of_another_recipe_is_made_again(part):
    made(part.tuned, seed=7)
    assert not part.tuned.is_exported


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"recipe": 1}', '{"recipe": {}, "format_version": 1}'])
def test_damaged_manifest_is_no_bundle(part, content):
    part.tuned.bundle.mkdir(parents=True)
    (part.tuned.bundle / "manifest.json").write_text(content)
    assert not part.tuned.is_exported


def test_link_leads_to_one_bundle_and_then_to_another(part, tmp_path):
    made(part.untuned)
    part.serve(part.untuned)
    assert part.served.resolve() == part.untuned.bundle.resolve()
    made(part.tuned)
    part.serve(part.tuned)
    assert part.served.resolve() == part.tuned.bundle.resolve()
    part.drop_untuned()
    assert sorted(path.name for path in part.folder.iterdir()) == ["bundle", "served"]


def test_link_holds_where_the_folder_moves(part, tmp_path):
    made(part.tuned)
    part.serve(part.tuned)
    moved = tmp_path / "elsewhere"
    part.folder.rename(moved)
    assert (moved / "served" / "manifest.json").is_file()
