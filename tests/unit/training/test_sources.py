"""The source that a result depends on: found by following names, without comments and docstrings."""

import shutil

import pytest

from tests import ROOT
from training import sources

CLEAN, TUNE, TRAIN = (
    "training.cleaning.stage:clean",
    "training.fitting.evaluation.calibration:tune",
    "training.fitting.checkpoint:train",
)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A copy of the project that may be edited; `digest` reads its source anew."""
    for package in ("relevance", "training"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))

    def path(name):
        place = tmp_path.joinpath(*name.split("."))
        return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)

    monkeypatch.setattr(sources, "_path", path)
    yield tmp_path
    forget()


def forget():
    sources._module.cache_clear()
    sources._source_of.cache_clear()


def digest(*functions):
    forget()
    return sources.source_of(*functions).digest


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_changed_function_far_down_changes_the_digest(tree):
    before = digest(CLEAN), digest(TUNE)
    edit(tree / "relevance/text/formatting.py", '    "car mp4,mp5",\n', "")
    assert digest(CLEAN) != before[0]
    assert digest(TUNE) == before[1]


def test_docstrings_comments_and_annotations_do_not_count(tree):
    before = digest(TUNE)
    edit(
        tree / "training/fitting/evaluation/calibration.py",
        '"""Return what dev rows',
        '# a comment\n    """Return what the dev rows',
    )
    edit(
        tree / "training/fitting/evaluation/calibration.py",
        "def _log_loss(labels: Floats, logits: Floats) -> float:",
        "def _log_loss(labels, logits):",
    )
    assert digest(TUNE) == before


def test_a_table_beside_the_module_counts(tree):
    before = digest("training.sample.shop:showcase")
    (tree / "training/sample/showcase.tsv").write_text("en\tfree gift\n")
    assert digest("training.sample.shop:showcase") != before


def test_imports_within_functions_are_followed(tree):
    before = digest("training.pipeline.model_stages:train")
    edit(
        tree / "training/fitting/loop/finetune.py",
        "if step + 1 in marks:",
        "if step + 2 in marks:",
    )
    assert digest("training.pipeline.model_stages:train") != before


def test_packages_reached_come_with_their_versions():
    assert {"torch", "transformers", "tokenizers", "python"} <= set(sources.source_of(TRAIN).packages)
    assert "torch" not in sources.source_of(TUNE).packages
    assert sources.source_of(TUNE).packages["scipy"][0].isdigit()


def test_unknown_functions_are_refused():
    with pytest.raises(KeyError, match="no such method"):
        sources.source_of("training.pipeline.run:Pipeline._bake")
