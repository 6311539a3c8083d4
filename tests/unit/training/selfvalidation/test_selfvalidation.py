import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import training.fitting.checkpoint
from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task, query_key
from tests.models import tiny_model
from training.data.groups import copy_groups, linked_groups
from training.data.labels.weights import label_shares
from training.data.stored import spool
from training.data.stored.rows import StoredRows, filtered, stored
from training.embedding.vectors import CachedEncoder
from training.fitting.evaluation.calibration import platt
from training.fitting.recipe import Recipe
from training.models.encoder_embedder import EncoderEmbedder
from training.models.probe import Probe
from training.reports.review import check_unique_ids, write_review
from training.selfvalidation import flags, grounds
from training.selfvalidation.actions import act, acted_on, drop_at_random, flipped, mixtures, softened, spared
from training.selfvalidation.decisions import apply_review, read_decisions
from training.selfvalidation.folds import assign_folds, dev_part
from training.selfvalidation.grounds import Grounds, nearest_rows, reasons
from training.selfvalidation.judging import Suggestion, judge
from training.selfvalidation.options import Action, FilterModel, Flag, Judge, Prune, SelfValidationOptions
from training.selfvalidation.outoffold import OutOfFold, model_recipe, out_of_fold, plan_folds
from training.selfvalidation.report import known_truth, quality
from training.selfvalidation.stage import FlaggedRow, SelfValidation, validate_rows

TWO_MODELS = (FilterModel(judge="crossencoder"), FilterModel(judge="crossencoder", seed=1))
TWO_KINDS = (FilterModel(judge="crossencoder"), FilterModel(judge="probe"))
SEEDS = st.integers(0, 10_000)
LABELS = st.lists(st.integers(0, 1), min_size=1, max_size=60)


def self_validate(rows, stage):
    """Return the rows after self-validation and the report."""
    done = validate_rows(rows, stage)
    return done.rows, done.report


def row(name, query="cup", label=1, candidate="home,cups", language="en", **extra):
    return LabeledPair(Pair(query, candidate, language), label, str(name), extra)


def rows(count):
    """Pairs whose label says whether the candidate names the thing of the query; every fifth has a translation."""
    things = ("shoes", "cups", "lamps")
    made = []
    for i in range(count):
        thing, other = things[i % 3], things[(i + i // 3 % 2) % 3]
        made.append(row(i, f"{thing} {i}", int(thing == other), f"goods,{other}", "de" if i % 4 == 0 else "en"))
        if i % 5 == 0:
            copy = {"source": "translation", "source_id": str(i)}
            made.append(row(f"{i}~ja", f"靴 {i}", made[-1].label, f"goods,{other}", "ja", **copy))
    return made


def originals(count):
    return [each for each in rows(count) if "source" not in each.extra]


def noisy(seed, count=400, rate=0.2, skill=1.0):
    """Labels of which a share is wrong, and scores that know the truth more or less; the mask of wrong labels."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(count) < 0.6).astype(int)
    wrong = rng.random(count) < rate
    scores = 1 / (1 + np.exp(-(skill * (4 * truth - 2) + rng.normal(0, 1, count))))
    return np.where(wrong, 1 - truth, truth), scores, wrong


def out_of(scores, kinds=None):
    scores = np.atleast_2d(np.asarray(scores, dtype=float))
    return OutOfFold(scores, np.full_like(scores, 0.5), scores, tuple(kinds or range(len(scores))))


@st.composite
def linked_rows(draw):
    """Rows of few queries, some made of earlier ones under a query of their own."""
    made = []
    for i in range(draw(st.integers(1, 30))):
        parent = draw(st.integers(0, i - 1)) if i and draw(st.booleans()) else None
        query = draw(st.sampled_from(["Cup", "cup ", "lamp", "靴", "ｃｕｐ", "mug", "vase", f"only {i}"]))
        extra = {} if parent is None else {"source_id": str(parent)}
        made.append(row(i, query, draw(st.integers(0, 1)), language=draw(st.sampled_from(["en", "ja"])), **extra))
    return made


@given(linked_rows())
def test_no_query_and_no_made_row_leaves_its_group(made):
    groups = linked_groups(made)
    by_key = {}
    for each, group in zip(made, groups, strict=True):
        assert by_key.setdefault(query_key(each.pair.query), group) == group
        if "source_id" in each.extra:
            assert groups[int(each.extra["source_id"])] == group


@given(linked_rows(), st.randoms(use_true_random=False))
def test_groups_and_folds_do_not_depend_on_the_order_of_rows(made, random):
    shuffled = random.sample(made, len(made))
    assert dict(zip([r.id for r in made], linked_groups(made), strict=True)) == dict(
        zip([r.id for r in shuffled], linked_groups(shuffled), strict=True)
    )


def test_rows_made_of_a_row_that_is_gone_stay_together():
    made = [row("7~de", "tasse", source_id="7"), row("7~fr", "tasse à thé", source_id="7"), row("8", "lampe")]
    groups = linked_groups(made)
    assert groups[0] == groups[1] != groups[2]


def test_ids_repeated_by_chance_link_nothing():
    assert len(set(linked_groups([row(1, "cup"), row(1, "lamp"), row(1, "mug")]))) == 3


def test_folds_are_stratified_by_language_and_label():
    made = [row(i, f"q{i}", i % 3 == 0, language="ja" if i % 5 == 0 else "en") for i in range(600)]
    folds = assign_folds(made, 5, seed=1)
    for fold in range(5):
        held = [made[i] for i in np.flatnonzero(folds == fold)]
        assert len(held) == pytest.approx(120, abs=2)
        assert sum(r.label for r in held) == pytest.approx(40, abs=2)
        assert sum(r.pair.language == "ja" for r in held) == pytest.approx(24, abs=2)


def test_a_dev_part_is_whole_groups_and_about_its_share():
    made = rows(200)
    groups, is_dev = linked_groups(made), dev_part(made, 0.1, seed=0)
    assert is_dev.mean() == pytest.approx(0.1, abs=0.02)
    assert not {groups[i] for i in np.flatnonzero(is_dev)} & {groups[i] for i in np.flatnonzero(~is_dev)}


def test_every_row_is_held_once_and_never_trained_on_by_its_judge():
    made = rows(120)
    groups = np.array(linked_groups(made))
    plans = plan_folds(made, SelfValidationOptions(folds=4))
    assert sum(plan.held.astype(int) for plan in plans).tolist() == [1] * len(made)
    for plan in plans:
        assert (plan.held.astype(int) + plan.train + plan.dev).tolist() == [1] * len(made)
        assert not set(groups[plan.held]) & set(groups[plan.train | plan.dev])
        assert not set(groups[plan.train]) & set(groups[plan.dev])


def test_a_fold_without_both_labels_is_refused():
    with pytest.raises(InputError, match=r"part of fold 1 of 2: .* not of both labels"):
        plan_folds([row(i, f"q{i}", label=1) for i in range(40)], SelfValidationOptions(folds=2))


def test_too_few_queries_for_the_folds_are_refused():
    with pytest.raises(InputError, match="expected more queries"):
        plan_folds([row(i, "cup", i % 2) for i in range(40)], SelfValidationOptions(folds=2))


@given(LABELS, st.data())
def test_a_contradiction_is_on_the_other_side_by_the_margin(labels, data):
    scores = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(labels), max_size=len(labels))))
    margin = data.draw(st.floats(0, 0.5))
    found = flags.contradictions(labels, scores, 0.5, margin)
    for label, score, flagged in zip(labels, scores, found, strict=True):
        on_other_side = score < 0.5 if label else score >= 0.5
        far = 0.5 - score if label else score - 0.5
        assert not flagged or (on_other_side and far >= margin - 1e-9)
        assert flagged or not (on_other_side and far >= margin + 1e-9)


def test_the_band_is_around_each_rows_own_threshold():
    found = flags.boundary_band([0.30, 0.52, 0.30, 0.46], [0.3, 0.5, 0.5, 0.5], 0.03)
    assert found.tolist() == [True, True, False, False]


def test_the_confident_joint_of_a_small_case():
    labels = [1, 1, 1, 1, 0, 0, 0, 0]
    scores = [0.9, 0.8, 0.7, 0.1, 0.1, 0.2, 0.3, 0.9]
    joint = flags.confident_joint(labels, scores)
    assert joint.thresholds == pytest.approx([0.625, 0.625])
    assert joint.counts.tolist() == [[3, 1], [1, 3]]
    assert joint.noise_rate == 0.25
    for prune in Prune:
        assert np.flatnonzero(flags.confident_learning(labels, scores, prune)).tolist() == [3, 7]


def test_thresholds_of_confident_learning_follow_a_biased_scorer():
    labels = [1, 1, 1, 0, 0, 0]
    scores = [0.99, 0.98, 0.70, 0.69, 0.60, 0.97]  # all above one half
    assert np.flatnonzero(flags.confident_learning(labels, scores, Prune.OFF_DIAGONAL)).tolist() == [2, 5]


@given(SEEDS, st.floats(0.05, 0.35), st.sampled_from(list(Prune)))
@settings(max_examples=40, deadline=None)
def test_confident_learning_finds_flipped_labels_better_than_chance(seed, rate, prune):
    labels, scores, wrong = noisy(seed, rate=rate)
    found = flags.confident_learning(labels, scores, prune)
    assert found.any()
    assert wrong[found].mean() > 1.5 * wrong.mean()
    assert found[wrong].mean() > 2 * found[~wrong].mean()


@given(SEEDS, st.floats(0.05, 0.35))
@settings(max_examples=40, deadline=None)
def test_the_estimated_noise_rate_is_near_the_true_one_for_a_good_scorer(seed, rate):
    labels, scores, wrong = noisy(seed, count=2000, rate=rate, skill=2.0)
    assert flags.confident_joint(labels, scores).noise_rate == pytest.approx(wrong.mean(), abs=0.03)


@given(LABELS, st.data())
def test_confident_learning_takes_any_scores(labels, data):
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=len(labels), max_size=len(labels)))
    joint = flags.confident_joint(labels, scores)
    assert joint.calibrated.sum() == pytest.approx(len(labels))
    assert 0 <= joint.noise_rate <= 1
    pruned = flags.confident_learning(labels, scores, Prune.NOISE_RATE)
    assert abs(pruned.sum() - joint.noise_rate * len(labels)) <= 1 + 1e-9


@given(LABELS)
def test_scores_that_know_nothing_flag_nothing(labels):
    for prune in Prune:
        assert not flags.confident_learning(labels, np.full(len(labels), 0.5), prune).any()


def test_only_the_worst_rows_are_kept():
    doubts = [0.6, 0.9, 1.0, 0.6]
    assert flags.worst([True, True, False, True], doubts, 2, np.arange(4)).tolist() == [True, True, False, False]


def test_a_group_that_does_not_fit_is_spared_whole():
    doubts, groups = [0.9, 0.8, 0.8, 0.6], np.array([0, 1, 1, 2])
    assert flags.worst([True] * 4, doubts, 2, groups).tolist() == [True, False, False, False]
    assert flags.worst([True] * 4, doubts, 3, groups).tolist() == [True, True, True, False]
    assert flags.worst([True, True, False, True], doubts, 4, groups).tolist() == [True, False, False, True]


def judged(labels, scores, **options):
    options = SelfValidationOptions(**{"methods": ["contradiction"]} | options)
    return judge(labels, out_of(scores), options), options


def test_without_a_threshold_each_row_is_held_against_that_of_its_fold():
    scores = np.array([[0.4, 0.4]])
    found = OutOfFold(scores, np.array([[0.2, 0.7]]), scores, (Judge.PROBE,))
    options = SelfValidationOptions(methods=["contradiction"], threshold=None, margin=0.1)
    assert judge([1, 1], found, options).flagged.tolist() == [False, True]


def done(made, found, options, most=None):
    return act(made, found, options, acted_on(found, options.action, len(made) if most is None else most))


def test_relabelling_needs_every_kind_of_judge_to_be_sure():
    made = [row(0, label=1, original=1), row(1, label=1), row(2, label=0)]
    found, options = judged([1, 1, 0], [[0.1, 0.1, 0.1], [0.15, 0.4, 0.1]], action=Action.RELABEL, models=TWO_KINDS)
    left = done(made, found, options)
    assert [r.label for r in left] == [0, 1, 0]
    assert left[0].extra == {"original": 1, "original_label": 1}
    assert left[1] is made[1]


def test_down_weighting_marks_flagged_rows_only():
    made = [row(0, label=1), row(1, label=1), row(2, label=0)]
    found, options = judged([1, 1, 0], [0.02, 0.9, 0.75], action=Action.WEIGHT)
    assert [r.extra.get("label_weight") for r in done(made, found, options)] == [0.1, None, 0.25]


def test_down_weighting_multiplies_the_weight_that_is_there():
    made = [row(0, label=1, label_weight=0.5), row(1, label=1, label_weight=0.5)]
    found, options = judged([1, 1], [0.25, 0.9], action=Action.WEIGHT)
    assert [r.extra["label_weight"] for r in done(made, found, options)] == [0.125, 0.5]


def test_models_of_one_kind_are_one_judge_by_their_mean():
    scores = [[0.1, 0.1], [0.25, 0.4], [0.15, 0.15]]
    options = SelfValidationOptions(methods=["contradiction"])
    found = judge([1, 1], out_of(scores, ["probe", "probe", "crossencoder"]), options)
    assert found.unanimous.tolist() == [True, False]  # the probes give label 0 .825 and .75


def test_a_row_and_its_translations_have_one_judgement():
    made = [row(0), row(1, "tasse", source_id="0"), row(2, "xícara", source_id="0"), row(3, candidate="a,b")]
    made.append(row("4", label=0, candidate="home,pans", source_id="0"))  # a sampled negative
    assert copy_groups(made).tolist() == [0, 0, 0, 1, 2]
    options = SelfValidationOptions(methods=["contradiction"])
    found = judge([1, 1, 1, 1, 0], out_of([0.1, 0.2, 0.6, 0.3, 0.9]), options, copy_groups(made))
    assert found.scores == pytest.approx([0.3, 0.3, 0.3, 0.3, 0.9])
    assert found.flagged.all()
    assert [r.id for r in done(made, found, options, most=2)] == ["0", "1", "2", "3"]
    assert [r.id for r in done(made, found, options, most=4)] == ["3"]


@given(linked_rows())
def test_rows_of_one_decision_have_one_candidate_and_label_and_lie_in_one_fold(made):
    linked = linked_groups(made)
    by_group = {}
    for each, group, number in zip(made, linked, copy_groups(made), strict=True):
        assert by_group.setdefault(number, (each.label, group)) == (each.label, group)


def test_softening_mixes_every_label_with_the_calibrated_probability():
    made = [row(0, label=1, note="a"), row(1, label=0), row(2, label=1)]
    options = SelfValidationOptions(action="soften", max_share=0.01)
    found = judge([1, 0, 1], replace(out_of([0.5] * 3), calibrated=np.array([[0.9, 0.4, 0.1]])), options)
    left = done(made, found, options, most=0)
    assert [r.extra["label_share"] for r in left] == [0.97, 0.12, 0.73]
    assert [r.label for r in left] == [1, 0, 1]
    assert left[0].extra == {"note": "a", "label_share": 0.97}


def test_a_softened_label_changes_on_the_other_side_of_one_half_only():
    options = SelfValidationOptions(action="soften", mix=0.6)
    found = judge([1, 0, 1], replace(out_of([0.5] * 3), calibrated=np.array([[0.1, 5 / 6, 0.5]])), options)
    left = done([row(0, label=1), row(1, label=0), row(2, label=1)], found, options)
    assert [(r.label, r.extra["label_share"]) for r in left] == [(0, 0.46), (0, 0.5), (1, 0.7)]
    assert [r.extra.get("original_label") for r in left] == [1, None, None]


def test_many_votes_outweigh_the_judges():
    # 4 votes weigh 4 * .7 = 2.8, the judges .3
    assert mixtures([1, 1, 0.75], [1, 4, 4], [0.0, 0.0, 0.5], 0.3) == pytest.approx([0.7, 2.8 / 3.1, 2.25 / 3.1])


def test_a_flip_turns_the_share_of_votes():
    made = [row(0, label=1, label_share=0.75, label_votes=4)]
    found, options = judged([1], [[0.1], [0.15]], action=Action.RELABEL, models=TWO_KINDS)
    [left] = done(made, found, options)
    assert (left.label, left.extra["label_share"], left.extra["original_label"]) == (0, 0.25, 1)


@pytest.mark.parametrize(("share", "mirrored"), [(0.05, 0.15), (0.4, 0.0), (0.1, 0.1)])
def test_a_flip_of_clicks_mirrors_the_rate_at_its_cut(share, mirrored):
    clicked = row(0, label=int(share >= 0.1), label_share=share, label_cut=0.1)
    assert flipped(clicked).extra["label_share"] == pytest.approx(mirrored)


def test_softened_clicks_change_label_at_their_cut():
    assert softened(row(0, label=0, label_share=0.05, label_cut=0.1), 0.12).label == 1
    assert softened(row(0, label=1, label_share=0.2, label_cut=0.1), 0.12).label == 1


@pytest.mark.parametrize(("share", "count"), [(0.29, 29), (0.57, 57), (0.3, 30), (1.0, 100)])
def test_the_worst_share_is_the_number_that_it_says(share, count):
    found, _ = judged([1] * 100, [n / 1000 for n in range(100)], worst_share=share)
    assert found.flagged.sum() == count


def test_dropping_takes_at_most_its_share_worst_first():
    made = [row(i, label=1) for i in range(4)]
    found, options = judged([1] * 4, [0.2, 0.1, 0.25, 0.9], worst_share=0.5)
    assert [r.id for r in done(made, found, options)] == ["2", "3"]
    assert [r.id for r in done(made, found, options, most=1)] == ["0", "2", "3"]
    assert spared(found, Action.DROP, acted_on(found, Action.DROP, 1)) == 1


def test_review_changes_nothing_and_suggests():
    made = [row(i, label=1) for i in range(3)]
    found, options = judged([1] * 3, [0.1, 0.27, 0.5], action=Action.REVIEW, methods=list(Flag))
    assert done(made, found, options) == made
    assert [found.suggestion(i) for i in (0, 1)] == [Suggestion.FLIP, Suggestion.DROP]
    assert Flag.BOUNDARY in found.flags_of(2)


@given(st.lists(st.tuples(st.sampled_from(["en", "ja"]), st.integers(0, 1), st.booleans()), min_size=1), SEEDS)
def test_the_control_drops_as_many_of_each_language_and_label(content, seed):
    made = [row(i, label=label, language=language) for i, (language, label, _) in enumerate(content)]
    gone = np.array([drop for _, _, drop in content])
    left = drop_at_random(made, gone, seed)
    assert left == drop_at_random(made, gone, seed)
    stratum = sorted((r.pair.language, r.label) for r in left)
    assert stratum == sorted((language, label) for language, label, drop in content if not drop)


def test_the_control_is_drawn_by_its_seed():
    made = [row(i) for i in range(50)]
    gone = np.arange(50) < 10
    assert drop_at_random(made, gone, 1) != drop_at_random(made, gone, 2)


def test_quality_counts_hits_and_leaves_made_negatives_out():
    made = [row(0, label=1, true_label=0), row(1, label=1, true_label="1"), row(2, label=0, true_label=1), row(3)]
    made.append(row(4, label=0, true_label=1, source="negative"))
    found = quality(known_truth(made), np.array([True, True, False, True, True]))
    assert (found.rows, found.wrong, found.flagged, found.hits) == (3, 2, 2, 1)
    assert (found.precision, found.recall) == (0.5, 0.5)
    assert quality(known_truth([row(0)]), np.array([True])) is None


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="two kinds"):
        SelfValidationOptions(action="relabel", models=TWO_MODELS)
    with pytest.raises(ValidationError, match="two models are the same"):
        SelfValidationOptions(models=[{"seed": 1}, {"seed": 1}])
    with pytest.raises(ValidationError, match="expected drop or relabel"):
        SelfValidationOptions(rounds=2, action="weight")
    with pytest.raises(ValidationError, match="expected drop or relabel"):
        SelfValidationOptions(rounds=2, action="soften")


# The stage, with a real, tiny model. It knows next to nothing, so that its judgement is taken as it is.

LENIENT = {"max_share": 1.0, "least_auc": 0.0}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    base = tiny_model(tmp_path_factory.mktemp("base"))
    training = {"epochs": 1, "batch_size": 16, "learning_rate": 2e-3, "head_learning_rate": 1e-2, "evaluations": 1}
    return Recipe.model_validate({"name": "tiny", "task": "qc", "base_model": str(base), "training": training})


def test_settings_go_over_the_recipe(recipe):
    model = FilterModel(judge="crossencoder", seed=4, settings={"training": {"epochs": 0.5}})
    changed = model_recipe(recipe, model, {"training": {"epochs": 3, "batch_size": 8}})
    assert (changed.seed, changed.training.epochs, changed.training.batch_size) == (4, 0.5, 8)
    assert changed.training.learning_rate == recipe.training.learning_rate
    with pytest.raises(ConfigError, match="epoch"):
        model_recipe(recipe, model, {"training": {"epoch": 3}})


def test_a_stopped_run_trains_only_the_folds_that_are_left(recipe, tmp_path, monkeypatch):
    made, options = rows(60), SelfValidationOptions(folds=2, models=TWO_MODELS)
    whole = out_of_fold(made, recipe, options, tmp_path / "whole")
    trained, real = [], training.fitting.checkpoint.train

    def interrupted(job):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(job.out)
        return real(job)

    monkeypatch.setattr(training.fitting.checkpoint, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        out_of_fold(made, recipe, options, tmp_path / "stopped")
    trained.clear()
    resumed = out_of_fold(made, recipe, options, tmp_path / "stopped")
    assert len(trained) == 1
    np.testing.assert_array_equal(resumed.scores, whole.scores)
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["scores"]


def test_other_flags_and_actions_train_nothing_anew(recipe, tmp_path, monkeypatch):
    made, work = rows(60), tmp_path / "work"
    self_validate(made, SelfValidation(recipe, SelfValidationOptions(folds=2, **LENIENT), work))

    def never(job):
        raise AssertionError(job.out)

    monkeypatch.setattr(training.fitting.checkpoint, "train", never)
    options = SelfValidationOptions(folds=2, methods=list(Flag), action="weight", band=0.2, **LENIENT)
    left, report = self_validate(made, SelfValidation(recipe, options, work))
    assert [(r.id, r.label) for r in left] == [(r.id, r.label) for r in made]
    weighed = sum("label_weight" in r.extra for r in left)
    assert weighed == report.actions.get("down-weighted", 0) == report.rounds[0].flagged


def test_rounds_judge_what_the_one_before_left(recipe, tmp_path):
    made = originals(90)
    options = SelfValidationOptions(
        folds=2, rounds=2, methods=["boundary"], band=0.5, worst_share=0.1, max_share=0.2, least_auc=0
    )
    done = validate_rows(made, SelfValidation(recipe, options, tmp_path))
    first, second = done.report.rounds
    assert (first.rows, first.flagged) == (90, 9)
    assert (second.rows, second.flagged) == (81, 8)
    assert done.report.actions == {"dropped": 17}
    assert [r for r, gone in zip(made, done.dropped, strict=True) if not gone] == done.rows
    assert {each.row.id for each in done.flagged} == {r.id for r in made} - {r.id for r in done.rows}


def test_all_rounds_together_act_on_no_more_than_the_share_allowed(recipe, tmp_path):
    options = SelfValidationOptions(
        folds=2, rounds=2, methods=["boundary"], band=0.5, worst_share=0.1, max_share=0.15, least_auc=0
    )
    done = validate_rows(originals(90), SelfValidation(recipe, options, tmp_path))
    assert [(each.flagged, each.spared) for each in done.report.rounds] == [(9, 0), (8, 4)]
    assert done.report.actions == {"dropped": 13}  # int(.15 * 90)
    assert len(done.flagged) == 17
    assert "4 of them spared: max_share is reached" in done.report.text()


def test_relabelling_reports_agreement_and_quality(recipe, tmp_path):
    made = [row(r.id, r.pair.query, r.label, r.pair.candidate, true_label=1) for r in rows(60)]
    methods, models = ["contradiction", "confident"], TWO_KINDS
    options = SelfValidationOptions(
        folds=2, action="relabel", methods=methods, margin=0, relabel_confidence=0.51, models=models, **LENIENT
    )
    left, report = self_validate(made, SelfValidation(recipe, options, tmp_path))
    flips = [(a, b) for a, b in zip(made, left, strict=True) if a.label != b.label]
    assert len(flips) == report.actions.get("relabelled", 0)
    assert all(b.extra["original_label"] == a.label for a, b in flips)
    (only,) = report.rounds
    assert 0 <= only.agreement.all_rows <= 1
    assert set(only.quality) == {"contradiction", "confident", "flagged"}
    assert type(report).model_validate_json(report.model_dump_json()) == report


def test_softening_writes_a_share_for_every_row_and_needs_no_flag(recipe, tmp_path):
    options = SelfValidationOptions(folds=2, action="soften", least_auc=0, max_share=0.01, models=[{"judge": "probe"}])
    made = rows(90)
    done = validate_rows(made, SelfValidation(recipe, options, tmp_path))
    assert done.report.actions == {"softened": 108}
    shares = label_shares(done.rows)
    assert all(abs(share - each.label) <= 0.3 for share, each in zip(shares, made, strict=True))
    assert len(set(shares)) > 20
    assert not done.dropped.any()


def test_rows_on_disk_are_judged_and_changed_as_those_in_memory(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "BUCKET_ROWS", 16)
    made = [row(r.id, r.pair.query, r.label, r.pair.candidate, true_label=1, **r.extra) for r in rows(90)]
    for options in (
        {"action": "drop", "methods": ["boundary"], "band": 0.5, "worst_share": 0.1, "rounds": 2},
        {"action": "weight", "methods": ["boundary"], "band": 0.5},
        {"action": "soften"},
        {"action": "review", "methods": ["confident"]},
    ):
        chosen = SelfValidationOptions(folds=2, **options, **LENIENT)
        whole, on_disk = (
            validate_rows(given, SelfValidation(recipe, chosen, tmp_path, held))
            for given, held in ((made, [row("x")]), (stored(made), stored([row("x")])))
        )
        assert isinstance(on_disk.rows, StoredRows)
        assert on_disk.rows == whole.rows
        assert (on_disk.report, on_disk.flagged) == (whole.report, whole.flagged)
        assert on_disk.dropped.tolist() == whole.dropped.tolist()
        assert drop_at_random(stored(made), on_disk.dropped, 3) == drop_at_random(made, whole.dropped, 3)
    plain = validate_rows(stored(made), SelfValidation(recipe, chosen, tmp_path, lists_flagged=False))
    assert (plain.flagged, plain.report) == ([], on_disk.report)


def test_folds_of_rows_on_disk_are_those_of_a_list():
    made, options = rows(120), SelfValidationOptions(folds=3)
    for one, other in zip(plan_folds(made, options), plan_folds(stored(made), options), strict=True):
        assert one.part.tolist() == other.part.tolist()


def test_calibrated_scores_are_those_of_platt_on_the_dev_part_of_each_fold(recipe, tmp_path):
    made, options = rows(90), SelfValidationOptions(folds=2)
    found = out_of_fold(made, recipe, options, tmp_path)
    plan = plan_folds(made, options)[0]
    train_rows, dev_rows, held = (filtered(made, part) for part in (plan.train, plan.dev, plan.held))
    probe = Probe(CachedEncoder(EncoderEmbedder(recipe.base_model), tmp_path), Task.QC).fit(train_rows)
    fitted = platt([r.label for r in dev_rows], probe.logits(dev_rows))
    assert found.calibrated[0, plan.held] == pytest.approx(fitted.scores(probe.logits(held)), abs=1e-6)


def test_rows_of_dev_are_refused(recipe, tmp_path):
    dev = [row("x", " SHOES  0", candidate="Goods,shoes")]
    with pytest.raises(InputError, match=r"1 of 72 rows are held out .first: id '0'"):
        self_validate(rows(60), SelfValidation(recipe, SelfValidationOptions(), tmp_path, dev))


def test_a_weight_that_is_no_number_is_named_before_anything_is_trained(recipe, tmp_path):
    made = [row(0, label_weight="2 kg"), row(1, label=0)]
    with pytest.raises(InputError, match=r"label_weight out of range .first: id '0'"):
        self_validate(made, SelfValidation(recipe, SelfValidationOptions(action="weight"), tmp_path))


# The review list.


GROUNDS = Grounds(0.5, (0.2, 0.8), 0.97, (Flag.CONFIDENT,))


def flagged_row(name, doubt, candidate="home,cups", language="en", query="cup", label=1):
    found = row(name, query, label, candidate, language)
    return FlaggedRow(found, 1 - doubt if label else doubt, doubt, (Flag.CONFIDENT,), Suggestion.DROP, GROUNDS)


def read_csv(path):
    return list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))


def test_the_list_is_one_and_worst_first(tmp_path):
    made = [flagged_row("a", 0.6), flagged_row("b", 0.9, "toys,cars"), flagged_row("c", 0.8, language="de")]
    table = write_review(tmp_path / "r.html", made, Task.QC, "t")
    assert [record["id"] for record in read_csv(table)] == ["b", "c", "a"]
    page = (tmp_path / "r.html").read_text()
    assert re.findall(r'data-id="(\w)"', page) == ["b", "c", "a"]
    assert re.findall(r'<option value="([a-z]+)">[a-z]+ \(\d\)', page) == ["home", "toys", "en", "de", "drop"]


def test_the_page_shows_grounds_and_the_nearest_rows(tmp_path):
    near = {"a": [row("n", "red cup", 0, "home,cups", "fr")]}
    write_review(tmp_path / "r.html", [flagged_row("a", 0.9)], Task.QC, "t", near=near)
    said = " ".join(" ".join(Seen((tmp_path / "r.html").read_text()).texts).split())
    assert (
        "Rows labelled 0 score 0.20 on average; this one, labelled 1, scores 0.10: it looks like one of them." in said
    )
    assert "It is more doubtful than 97% of the rows labelled 1." in said
    assert "0 red cup home,cups fr" in said


@pytest.mark.parametrize(
    ("label", "score", "rule", "said"),
    [
        (1, 0.3, Flag.CONTRADICTION, "The score 0.30 is below the judges' threshold 0.50, and the label is 1."),
        (0, 0.5, Flag.CONTRADICTION, "The score 0.50 is at or above the judges' threshold 0.50, and the label is 0."),
        (0, 0.52, Flag.BOUNDARY, "The score 0.52 is close to the judges' threshold 0.50: hard either way."),
        (0, 0.9, Flag.CONFIDENT, "this one, labelled 0, scores 0.90: it looks like one of them."),
        (1, 0.59, Flag.CONFIDENT, "some rows labelled 1 are wrong; this is among the most doubtful."),
    ],
)
def test_each_rule_gives_its_reason(label, score, rule, said):
    assert said in " ".join(reasons(label, score, Grounds(0.5, (0.2, 0.8), 0.9, (rule,))))


def test_grounds_are_those_of_the_judgement():
    labels, scores = [0] * 6 + [1] * 6, [0.1, 0.1, 0.2, 0.2, 0.3, 0.9, 0.9, 0.9, 0.8, 0.8, 0.7, 0.1]
    found, _ = judged(labels, scores)
    grounds = found.grounds(5)
    assert grounds.means == (pytest.approx(0.3), pytest.approx(0.7))
    assert grounds.worse_than == pytest.approx(5 / 6)
    assert Flag.ADAPTIVE not in grounds.rules
    assert grounds.threshold == found.thresholds[5]


def test_of_many_rows_with_a_candidate_some_are_compared_evenly(monkeypatch):
    monkeypatch.setattr(grounds, "MOST_COMPARED", 4)
    made = [row(at, f"query {at}") for at in range(10)]
    asked = row("asked", "other")
    assert {each.id for each in nearest_rows([*made, asked], [asked])["asked"]} == {"0", "2", "5", "8"}


def test_nearest_rows_share_a_text_and_the_likest_come_first():
    rows = [
        row("a", "red shoes", 1, "shoes"),
        row("b", "red shoe", 0, "shoes"),
        row("c", "blue boots", 1, "shoes"),
        row("d", "RED shoes", 0, "cups"),
        row("e", "red shoes 2", 0, "boots"),
    ]
    found = nearest_rows(rows, [rows[0], rows[4]])
    assert [each.id for each in found["a"]] == ["b", "c", "d"] or [each.id for each in found["a"]] == ["b", "d", "c"]
    assert found["e"] == []


class Seen(HTMLParser):
    """The tags, attributes and texts of a page, as a browser takes them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


@given(st.text(min_size=1), st.text(min_size=1))
@settings(max_examples=20, deadline=None)
def test_the_page_escapes_every_text(tmp_path_factory, query, candidate):
    path = tmp_path_factory.mktemp("page") / "r.html"
    marked = f'{query}<script>alert("x")</script>$title"\'>'
    write_review(path, [flagged_row(marked, 0.9, f"{candidate}<img src=x>", "<b>", marked)], Task.QC, "<i>$x</i>")
    seen = Seen(path.read_bytes().decode())
    assert marked in seen.texts
    assert seen.tags.count("script") == 1
    assert not {"img", "b", "i"} & set(seen.tags)
    assert all(value.startswith("#") for name, value in seen.attributes if name in ("href", "src"))
    assert not [name for name, _ in seen.attributes if name.startswith("on")]


def test_the_page_says_how_many_rows_it_leaves_to_the_csv(tmp_path):
    made = [flagged_row(str(i), i / 10) for i in range(9)]
    table = write_review(tmp_path / "r.html", made, Task.QI, "t", page_rows=2)
    page = (tmp_path / "r.html").read_text()
    assert "2 of 9 flagged rows" in page
    assert re.findall(r'data-id="(\w)"', page) == ["8", "7"]
    assert len(read_csv(table)) == 9


def test_formulas_stay_text_in_a_spreadsheet(tmp_path):
    table = write_review(tmp_path / "r.html", [flagged_row("1", 0.9, query="=1+1")], Task.QC, "t")
    assert read_csv(table)[0]["query"] == "'=1+1"


def test_repeated_ids_cannot_be_reviewed():
    with pytest.raises(InputError, match="1 ids stand on several rows"):
        check_unique_ids([row(1), row(1), row(2)])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_decisions_are_applied_and_open_ones_keep_the_row(tmp_path, delimiter):
    made = [row(i, label=i % 2) for i in range(5)]
    lines = ["Decision,label,id", "drop,0,0", "FLIP,1,1", "keep,0,2", ",1,3"]
    path = tmp_path / "d.csv"
    path.write_text("\ufeff" + "\r\n".join(lines).replace(",", delimiter) + "\r\n", encoding="utf-8")
    left, report = apply_review(made, read_decisions(path), path)
    assert [(r.id, r.label) for r in left] == [("1", 0), ("2", 0), ("3", 1), ("4", 0)]
    assert left[0].extra == {"original_label": 1}
    assert report.decisions == {"drop": 1, "flip": 1, "keep": 1, "undecided": 1}


def test_a_written_list_reads_back_once_decided(tmp_path):
    made = [flagged_row("a,1", 0.9, query='say "cup"\nnow'), flagged_row("b", 0.8)]
    table = write_review(tmp_path / "r.html", made, Task.QC, "t")
    assert [(d.id, d.decision) for d in read_decisions(table)] == [("a,1", None), ("b", None)]


def test_all_bad_lines_of_a_review_are_named_together_with_decisions_that_fit_no_row(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,label,decision\n1,1,delete\n,1,keep\n2,yes,drop\n9,1,keep\n1,0,drop\n")
    expected = (
        r"(?s)5 bad lines.*line 2: .*'delete'.*line 3: id is empty.*line 4: .*'yes'.*line 5: .*'9' is of no row"
        r".*line 6: .*has label 1, the review 0"
    )
    with pytest.raises(InputError, match=expected):
        apply_review([row(1), row(2)], read_decisions(path), path)


def decided(path, *lines):
    path.write_text("\n".join(["id,label,decision,annotator", *lines]) + "\n")
    return read_decisions(path)


def test_two_annotators_agree_differ_and_leave_open(tmp_path):
    made = [row(i, label=1) for i in range(6)]
    first = decided(tmp_path / "a.csv", "0,1,drop,ann", "1,1,keep,ann", "2,1,flip,ann", "3,1,drop,ann", "4,1,,ann")
    second = decided(tmp_path / "b.csv", "0,1,drop,bob", "1,1,keep,bob", "2,1,drop,bob", "3,1,,bob", "0,1,drop,ann")
    left, report = apply_review(made, first + second, tmp_path / "a.csv")
    assert [each.id for each in left] == ["1", "2", "4", "5"]
    assert {each.label for each in left} == {1}
    assert report.decisions == {"disputed": 1, "drop": 2, "keep": 1, "undecided": 1}
    assert (report.both, report.kappa) == (3, pytest.approx((2 / 3 - 3 / 9) / (1 - 3 / 9)))
    assert "two annotators on 3 rows, kappa 0.50" in report.text()


def test_agreement_that_chance_alone_explains_is_undefined(tmp_path):
    lines = [f"{i},1,drop,{name}" for i in range(3) for name in "ab"]
    _, report = apply_review([row(i) for i in range(3)], decided(tmp_path / "a.csv", *lines), tmp_path / "a.csv")
    assert (report.both, report.kappa) == (3, None)


def test_one_annotator_cannot_decide_twice_in_two_files(tmp_path):
    both = decided(tmp_path / "a.csv", "0,1,drop,1") + decided(tmp_path / "b.csv", "0,1,keep,1")
    with pytest.raises(InputError, match=r"b.csv line 2: id '0' is decided twice by one annotator.*two names"):
        apply_review([row(0)], both, tmp_path / "a.csv")


def test_decisions_must_fit_the_rows(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,label,decision\n9,1,keep\n1,0,flip\n2,0,drop\n2,0,keep\n5,1,drop\n")
    made = [row(1, label=1), row(2, label=0), row(5), row(5)]
    expected = r"(?s)4 bad lines.*'9' is of no row.*'1' has label 1, the review 0.*decided twice.*several rows"
    with pytest.raises(InputError, match=expected):
        apply_review(made, read_decisions(path), path)


def test_a_review_applied_twice_is_refused(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("id,label,decision\n1,1,flip\n")
    once, _ = apply_review([row(1)], read_decisions(path), path)
    with pytest.raises(InputError, match="flipped already"):
        apply_review(once, read_decisions(path), path)


def test_a_review_without_its_columns_is_refused(tmp_path):
    (tmp_path / "d.csv").write_text("id,query\n1,x\n")
    with pytest.raises(InputError, match="no column 'label', 'decision'"):
        read_decisions(tmp_path / "d.csv")


def test_the_default_rule_is_contradiction_for_sharp_judges_and_confident_learning_for_unsure_ones():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400)
    for noise, rule in ((0.2, Flag.CONTRADICTION), (3.0, Flag.CONFIDENT)):
        scores = 1 / (1 + np.exp(-(labels * 2 - 1 + rng.normal(0, noise, 400))))
        scores[:5] = 1 - scores[:5]
        found, _ = judged(labels.tolist(), scores.tolist(), methods=list(Flag))
        np.testing.assert_array_equal(found.flags[Flag.ADAPTIVE], found.flags[rule])
    assert SelfValidationOptions().methods == (Flag.ADAPTIVE,)
