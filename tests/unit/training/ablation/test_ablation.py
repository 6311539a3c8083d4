import re

import numpy as np
import pytest

from relevance.errors import ConfigError, InputError
from relevance.evaluation.metrics import auc
from training.ablation.arms import standard_arms, with_seed
from training.ablation.compare import JudgedRows, Scores, difference, draw, measured, recovered
from training.ablation.report import by_language, markdown, page, plot
from training.ablation.study import ArmResult, Comparison, Recovery, Study, run_study
from training.pipeline.recipe import PipelineRecipe
from training.pipeline.store import Store
from training.reports.charts import Dot, dot_chart

RECIPE = {"name": "x", "task": "qc", "translation": {"backends": ["memory:m.tsv"]}}


def recipe(**changes):
    return PipelineRecipe.model_validate(RECIPE | changes)


def test_arms_differ_in_one_strategy_and_are_compared_with_what_they_build_on():
    arms = {arm.name: arm for arm in standard_arms(recipe())}
    assert list(arms) == [
        "baseline",
        "translation",
        *(f"translation, {kind} negatives" for kind in ("random", "easy", "hard")),
        "translation, random dropping",
        "translation, filtering",
        "all strategies",
    ]
    off = arms["baseline"].recipe
    assert not any(part.enabled for part in (off.translation, off.negatives, off.filtering))
    assert arms["translation, hard negatives"].recipe.negatives.strategy == "hard"
    assert arms["translation, filtering"].against == ("translation", "translation, random dropping")
    assert arms["translation, random dropping"].recipe.filtering.control


def test_a_recipe_without_translators_has_no_arm_for_them():
    arms = standard_arms(recipe(translation={}))
    assert [arm.name for arm in arms][:2] == ["baseline", "random negatives"]
    assert all(set(arm.against) <= {a.name for a in arms} for arm in arms)


def test_transfer_is_an_arm_where_the_recipe_has_memories():
    arms = {arm.name: arm for arm in standard_arms(recipe(transfer={"memories": ["m.tsv"], "targets": ["de"]}))}
    assert arms["translation, transfer"].against == ("translation",)
    on = [name for name, arm in arms.items() if arm.recipe.transfer.enabled]
    assert on == ["translation, transfer", "all strategies"]


@pytest.mark.parametrize(
    ("changes", "has_arm"),
    [
        ({"transfer": {"memories": ["m.tsv"]}}, False),
        ({"transfer": {"memories": ["m.tsv"], "targets": ["de"]}, "model": "probe"}, False),
        ({"transfer": {"memories": ["m.tsv"], "targets": ["de"], "teacher": "t"}, "model": "probe"}, True),
    ],
)
def test_transfer_is_no_arm_where_the_recipe_lacks_what_it_needs(changes, has_arm):
    arms = {arm.name: arm for arm in standard_arms(recipe(**changes))}
    assert ("translation, transfer" in arms) is arms["all strategies"].recipe.transfer.enabled is has_arm


def test_what_is_wrong_with_any_arm_is_told_before_the_first_run(tmp_path, caplog):
    (tmp_path / "rows.jsonl").touch()
    data = {"train": [str(tmp_path / "rows.jsonl")]}
    with caplog.at_level("INFO"), pytest.raises(ConfigError, match=r"data\.train: no file is given"):
        run_study(standard_arms(recipe()), Store(tmp_path), seeds=1)
    with caplog.at_level("INFO"), pytest.raises(InputError, match=r"no\.jsonl: cannot be read"):
        run_study(standard_arms(recipe(data={"train": ["no.jsonl"]})), Store(tmp_path), seeds=1)
    given = recipe(data=data, negatives={"vet": str(tmp_path / "nowhere")})
    with caplog.at_level("INFO"), pytest.raises(ConfigError, match=r"negatives\.vet .*nowhere"):
        run_study(standard_arms(given), Store(tmp_path), seeds=1)
    assert "==" not in caplog.text


def test_only_keeps_arms_by_name_and_refuses_others():
    assert [a.name for a in standard_arms(recipe(), ["translation"])] == ["baseline", "translation"]
    with pytest.raises(ConfigError, match="no such arm"):
        standard_arms(recipe(), ["magic"])


def test_seeds_reach_everything_random_but_the_split():
    changed = with_seed(recipe(translation=RECIPE["translation"] | {"rows_per_language": 5}), 3)
    assert (changed.seed, changed.negatives.seed, changed.filtering.seed, changed.translation.seed) == (3, 3, 3, 3)
    assert changed.split.seed == 0


def test_seeds_that_were_given_are_counted_on_from():
    given = recipe(seed=2, filtering={"seed": 10})
    assert [with_seed(given, run).filtering.seed for run in (0, 1)] == [10, 11]
    assert with_seed(given, 1).seed == 3


def judged(seeds=2, count=400):
    """Test rows with 4 rows a query, and scores of a good, a middling and a poor arm."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    rows = JudgedRows(labels.tolist(), [f"q{n // 4}" for n in range(count)], ["en", "de"] * (count // 2), ["en"])

    def scores(noise):
        made = 1 / (1 + np.exp(-(labels * 2 - 1 + rng.normal(0, noise, (seeds, count)))))
        return Scores(made, np.full((seeds, count), 0.4))

    return rows, {"good": scores(0.5), "middling": scores(1.5), "poor": scores(4.0)}


def test_slices_are_all_seen_unseen_and_languages():
    rows, _ = judged()
    assert list(rows.slices()) == ["all", "seen", "unseen", "de", "en"]


def test_values_are_means_over_seeds_and_lie_in_their_intervals():
    rows, arms = judged()
    found = measured(draw(rows, arms["middling"], rows.slices()["all"], resamples=200))
    by_hand = np.mean([auc(rows.labels, scores) for scores in arms["middling"].scores])
    assert found.auc.value == pytest.approx(by_hand)
    assert found.auc.low < found.auc.value < found.auc.high


def test_an_arm_does_not_differ_from_itself_and_a_better_one_does():
    rows, arms = judged()
    draws = {name: draw(rows, arm, rows.slices()["all"], resamples=200) for name, arm in arms.items()}
    itself = difference(draws["good"], draws["good"], "auc")
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)
    assert difference(draws["good"], draws["poor"], "auc").low > 0


def test_recovery_is_the_share_of_the_loss_made_good():
    rows, arms = judged()
    draws = {name: draw(rows, arm, rows.slices()["all"], resamples=200) for name, arm in arms.items()}
    found = recovered(draws["middling"], draws["poor"], draws["good"])
    values = {name: part.values["auc"].mean() for name, part in draws.items()}
    expected = (values["middling"] - values["poor"]) / (values["good"] - values["poor"])
    assert found.value == pytest.approx(expected)
    assert recovered(draws["good"], draws["poor"], draws["good"]).value == pytest.approx(1)
    assert recovered(draws["poor"], draws["poor"], draws["good"]).value == pytest.approx(0)


def test_where_nothing_was_lost_nothing_is_recovered():
    rows, arms = judged()
    draws = {name: draw(rows, arm, rows.slices()["all"], resamples=200) for name, arm in arms.items()}
    for damaged, whole in (("good", "poor"), ("good", "good")):
        assert recovered(draws["middling"], draws[damaged], draws[whole]).value is None


def test_a_filter_that_drops_nothing_has_no_control():
    names = [arm.name for arm in standard_arms(recipe(filtering={"action": "weight"}))]
    assert "translation, random dropping" not in names


def test_reports_hold_every_arm_and_escape_names():
    rows, arms = judged()
    draws = {n: {p: draw(rows, a, m, resamples=50) for p, m in rows.slices().items()} for n, a in arms.items()}
    parts = list(rows.slices())
    differences = {p: difference(draws["good"][p], draws["poor"][p], "auc") for p in parts}
    study = Study(
        task="qc",
        model="probe",
        seeds=2,
        evaluated_on="test",
        test_rows=400,
        test_groups=100,
        always_yes_f1=dict.fromkeys(parts, 0.66),
        arms=[
            ArmResult(
                name=n,
                rows={"all": 10.0, "negative": 3.0, "transfer": 2.0},
                metrics={p: measured(f) for p, f in d.items()},
            )
            for n, d in draws.items()
        ],
        comparisons=[Comparison(arm="good & <new>", against="poor", auc=differences, f1=differences)],
        recoveries=[Recovery(arm="middling", damaged="poor", whole="good", auc=differences)],
    )
    text, picture = markdown(study), plot(study, "AUC")
    assert all(name in text for name in ("good", "middling", "poor", "10 (with 3 negative, 2 transfer)"))
    assert by_language(study).splitlines()[0] == "| AUC | de | en |"
    assert "good &amp; &lt;new&gt;" in picture
    assert picture.count('id="value"') == picture.count('id="interval"') == 3  # a dot and a line for each slice
    assert all(name in picture for name in ("seen languages", "unseen languages"))
    shown = page(study, "qc <x>")
    assert "<title>Ablation of qc &lt;x&gt;</title>" in shown
    assert "good &amp; &lt;new&gt; against poor" in shown
    assert shown.count("<svg") == 3  # a chart for each slice
    assert f"{differences['all']:+.3f}" in shown
    assert all(word not in shown for word in ("<script", "<new>", "url(", "http:", "https:"))


def test_the_line_of_a_chart_makes_way_for_labels_above_their_rows():
    def upright(above):
        dots = [Dot.of("an arm against another", value, (0.01, 0.03)) for value in (0.02, 0.02)]
        dashed = re.findall(r'<path d="([^"]*)"[^>]*stroke-dasharray: (?!none)', dot_chart("AUC", dots, 0, above=above))
        return [[float(y) for y in re.findall(r"[ML] \S+ (\S+)", path)] for path in dashed]

    [whole] = upright(above=False)
    first, second = upright(above=True)
    assert len(whole) == len(first) == len(second) == 2
    gap = min(second) - max(first)
    assert gap > 15  # points, at a font of 13: the label of the second row
