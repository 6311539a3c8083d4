"""Cascade bundles: made by the command, verified, opened by all that opens bundles, and refused when damaged."""

import json
import pickle
import shutil

import numpy as np
import pytest

from export.cascading import make_cascade
from export.verifying import verify_bundle
from relevance.errors import BundleError, ConfigError, InputError
from relevance.model.bundle import GOLDEN_FILE, MANIFEST_FILE, Bundle
from relevance.model.cascade import Band, CascadeRule
from relevance.scorer import Scorer
from relevance.tasks import Task
from tests.cascades import some_pairs, tiny_cascade
from tests.commands import relevance
from tests.tiny import MAX_LENGTH, tiny_bundle
from training.fitting.evaluation.report import OpenedModel

PAIRS = some_pairs(200, seed=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with `small`, `large`, `dev.jsonl` and the cascade `both`."""
    folder = tmp_path_factory.mktemp("cascade")
    tiny_cascade(folder)
    return folder


@pytest.fixture
def copied(root, tmp_path):
    return shutil.copytree(root / "both", tmp_path / "both")


def scorer(folder, **options):
    return Scorer.open(folder, device="cpu", threads=1, **options)


def expected(root, pairs):
    """Return the logits and which pairs are passed on, from the two bundles alone."""
    small, large = (scorer(root / name) for name in ("small", "large"))
    summary = Bundle.open(root / "both").manifest.cascade
    rule = CascadeRule(small.manifest, large.manifest, summary.scale, summary.band)
    languages = [pair.language for pair in pairs]
    logits, passed = rule.first(small.score(pairs).logits, languages)
    return np.where(passed, rule.second(large.score(pairs).logits, languages), logits), passed


def test_scorer_gives_the_score_of_the_model_that_answers(root):
    found, (logits, passed) = scorer(root / "both").score(PAIRS), expected(root, PAIRS)
    assert 0.02 < passed.mean() < 0.98
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    large = scorer(root / "large").score(PAIRS)
    np.testing.assert_allclose(found.scores[passed], large.scores[passed], atol=1e-6)
    assert found.labels[passed].tolist() == large.labels[passed].tolist()
    order = np.argsort(scorer(root / "small").score(PAIRS).logits[~passed], kind="stable")
    assert (np.diff(found.scores[~passed][order]) >= -1e-6).all()


def test_batches_change_no_score(root):
    found = scorer(root / "both", max_batch_tokens=64).score(PAIRS)
    np.testing.assert_allclose(found.logits, scorer(root / "both").score(PAIRS).logits, atol=1e-5)


def test_pickled_scorer_opens_the_cascade_again(root):
    opened = scorer(root / "both")
    again = pickle.loads(pickle.dumps(opened))
    assert again.score(PAIRS[:5]).scores.tolist() == opened.score(PAIRS[:5]).scores.tolist()


def test_cut_texts_are_marked(root):
    assert scorer(root / "both").score([("cup", "a"), ("cup", "a" * MAX_LENGTH)]).truncated.tolist() == [False, True]


def test_evaluation_reads_cascades(root):
    model = OpenedModel.open(root / "both")
    tokens = model.inputs.encode(PAIRS)
    np.testing.assert_allclose(model.run(PAIRS, tokens), expected(root, PAIRS)[0], atol=1e-5)


def test_manifest_says_what_the_band_was_chosen_by(root):
    manifest = Bundle.open(root / "both").manifest
    summary, versions = (
        manifest.cascade,
        {name: Bundle.open(root / name).manifest.version for name in ("small", "large")},
    )
    assert (manifest.name, manifest.task, summary.versions) == ("tiny-qc-1-cascade", Task.QC, versions)
    assert summary.chosen_on.rows == summary.held_out.rows == sum(manifest.dev_rows.values()) == 600
    assert summary.chosen_on.loss <= summary.max_f1_loss == 0.002
    assert manifest.metrics.all.f1.value == pytest.approx(summary.chosen_on.cascade)
    assert manifest.cosine_gains == {}


def test_golden_pairs_are_of_both_kinds_and_far_from_the_edges(root):
    bundle = Bundle.open(root / "both")
    pairs = [golden.pair for golden in bundle.golden]
    _, passed = expected(root, pairs)
    assert {(pair.language, bool(each)) for pair, each in zip(pairs, passed, strict=True)} >= {
        ("ja", True),
        ("ja", False),
        ("en", False),
    }
    small, summary = scorer(root / "small"), bundle.manifest.cascade
    band = summary.band
    rule = CascadeRule(small.manifest, bundle.manifest, summary.scale, band)
    distances = rule.distances(small.score(pairs).logits, [pair.language for pair in pairs])
    edges = [-band.below, band.above]
    assert np.abs(distances[:, None] - edges).min() > 2 * bundle.manifest.golden_tolerance - 1e-4


def test_verify_opens_a_cascade(root):
    assert verify_bundle(root / "both").worst < 1e-4


def test_command_makes_what_score_and_verify_read(root, tmp_path):
    made = relevance(
        *("cascade", root / "small", root / "large", tmp_path / "both", "--dev", root / "dev.jsonl"),
        *("--max-f1-loss", "0.002"),
    )
    assert made.returncode == 0, made.stderr
    assert "pairs passed on, cost" in made.stdout
    assert "held-out queries" in made.stdout
    assert "golden pairs agree" in relevance("verify", tmp_path / "both").stdout
    scored = relevance("score", tmp_path / "both", root / "dev.jsonl", tmp_path / "scored.jsonl")
    assert scored.returncode == 0, scored.stderr
    rows = [json.loads(line) for line in (tmp_path / "scored.jsonl").read_text().splitlines()]
    assert {row["model_version"] for row in rows} == {Bundle.open(tmp_path / "both").manifest.version}
    found = scorer(tmp_path / "both").score(
        [(row["origin_query"], row["category_path"], row["language"]) for row in rows]
    )
    np.testing.assert_allclose([row["score"] for row in rows], found.scores, atol=1e-5)


@pytest.mark.parametrize(
    "name", [MANIFEST_FILE, GOLDEN_FILE, "small/model.onnx", "large/manifest.json", "large/golden.jsonl"]
)
def test_any_flipped_byte_is_found(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 0x01
    (copied / name).write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged|altered|manifest\.json"):
        Bundle.open(copied)


def test_another_stage_than_the_one_that_it_was_made_with_is_refused(copied):
    shutil.rmtree(copied / "large")
    tiny_bundle(copied / "large", seed=7)
    with pytest.raises(BundleError, match=r"large/manifest\.json has sha256"):
        Bundle.open(copied)


def test_missing_stage_is_named(copied):
    shutil.rmtree(copied / "small")
    with pytest.raises(BundleError, match=r"small/manifest\.json is missing"):
        Bundle.open(copied)


def test_stage_outside_the_folder_is_refused(copied, root):
    shutil.rmtree(copied / "small")
    (copied / "small").symlink_to(root / "small")
    with pytest.raises(BundleError, match=r"small/manifest\.json is a link out of its folder"):
        Bundle.open(copied)


def make(root, out, small="small", large="large", dev="dev.jsonl", loss=0.05, **options):
    return make_cascade(root / small, root / large, out, root / dev, loss, **options)


def test_stages_that_do_not_belong_together_are_named(root, tmp_path):
    tiny_bundle(tmp_path / "qi", Task.QI)
    for arguments, message in (
        ({"small": tmp_path / "qi"}, "task qi, and .* task qc; expected two models of one task"),
        ({"small": "large"}, "are the same"),
        ({"large": "both"}, "is a cascade itself"),
    ):
        with pytest.raises(InputError, match=message):
            make(root, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "1 bad rows of 601; .*line 601: no JSON"),
        ("\n\nnot json", "1 bad rows of 601; .*line 603: no JSON"),
        ('{"origin_query": "a", "category_path": "b", "label": 2}', "label 2"),
        ('{"origin_query": "a", "category_path": "b"}', "label None"),
        ('{"origin_query": "a", "item_title": "b", "label": 1}', "category_path and label 0 or 1"),
    ],
)
def test_bad_rows_are_named(root, tmp_path, line, message):
    (tmp_path / "dev.jsonl").write_text((root / "dev.jsonl").read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        make(root, tmp_path / "out", dev=tmp_path / "dev.jsonl")


def test_rows_of_one_label_or_none_choose_nothing(root, tmp_path):
    for text in ("", '{"origin_query": "a", "category_path": "b", "label": 1}\n'):
        (tmp_path / "dev.jsonl").write_text(text)
        with pytest.raises(InputError, match="not both labels"):
            make(root, tmp_path / "out", dev=tmp_path / "dev.jsonl")


def test_bad_options_are_named(root, tmp_path):
    with pytest.raises(ConfigError, match=r"--max-f1-loss -0\.1: expected 0 or more"):
        make(root, tmp_path / "out", loss=-0.1)
    with pytest.raises(ConfigError, match="exists already"):
        make(root, root / "both")
    with pytest.raises(InputError, match=r"nothing\.jsonl: cannot be read"):
        make(root, tmp_path / "out", dev="nothing.jsonl")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        make(root, tmp_path / "out", small="nothing")


def test_cascade_that_passes_on_nothing_says_so(root, tmp_path, caplog):
    made = make(root, tmp_path / "out", loss=0.9)
    assert made.cascade.band == Band(below=0, above=0)
    assert any("serve it without the large one" in finding for finding in made.findings)
    assert "serve it without the large one" in caplog.text
