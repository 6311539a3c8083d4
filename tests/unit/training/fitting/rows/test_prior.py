import zlib
from dataclasses import replace

import numpy as np
import pytest

from relevance.errors import ConfigError
from relevance.tasks import LabeledPair, Pair
from relevance.text.formatting import PairFormat
from training.data.groups import linked_groups
from training.fitting.recipe import Recipe
from training.fitting.rows.prior import FOLDS, _folds, fit_prior

FORM = PairFormat()


def rows(count=60):
    return [LabeledPair(Pair(f"query {n // 2}", f"goods,{n % 4}"), n % 3 % 2, str(n)) for n in range(count)]


def test_a_row_and_its_linked_rows_do_not_change_their_own_features():
    before = rows()
    translated = LabeledPair(Pair("消息", before[0].pair.candidate), 0, "t", {"source_id": before[0].id})
    before = [*before, translated]
    after = [replace(row, label=1 - row.label) if n in (0, 1, 60) else row for n, row in enumerate(before)]
    first, second = (fit_prior(each, FORM, 0) for each in (before, after))
    assert first.table != second.table
    for place in (0, 1, 60):
        assert first.features[place].tolist() == second.features[place].tolist()
    assert first.features.tolist() != second.features.tolist()


def test_features_are_those_of_a_table_of_other_rows():
    some = rows()
    fitted = fit_prior(some, FORM, 0)
    of_all = {fitted.table.features(FORM.levels(row.pair.candidate)) for row in some}
    assert of_all.isdisjoint(map(tuple, fitted.features.tolist()))
    assert fitted.table.rows == fitted.summary.rows == len(some)
    again, other = (fit_prior(some, FORM, seed).features.tolist() for seed in (0, 1))
    assert fitted.features.tolist() == again != other


def test_a_group_has_the_fold_of_its_place_in_the_order_that_the_seed_draws():
    some = rows(700)
    groups = linked_groups(some)
    drawn = sorted(set(groups), key=lambda group: (zlib.crc32(f"5 {group}".encode()), group))
    assert _folds(some, 5).tolist() == [drawn.index(group) % FOLDS for group in groups]


def test_the_strength_follows_the_rows():
    def drawn(rates):
        rng = np.random.default_rng(0)
        places = [n % len(rates) for n in range(4000)]
        labels = rng.random(len(places)) < np.array(rates)[places]
        cells = zip(places, labels, strict=True)
        return [LabeledPair(Pair(f"q{n}", f"goods,{leaf}"), int(y), str(n)) for n, (leaf, y) in enumerate(cells)]

    chance, differ = (fit_prior(drawn(rates), FORM, 0) for rates in ([0.5] * 100, np.linspace(0.05, 0.95, 100)))
    assert chance.table.strength >= 160
    assert max(abs(number) for row in chance.features.tolist() for number in row) < 0.2
    assert differ.table.strength < 50
    assert max(abs(number) for row in differ.features.tolist() for number in row) > 1


def test_weights_and_shares_count_and_sampled_negatives_do_not():
    some = rows()
    plain = fit_prior(some, FORM, 0).table
    votes = [replace(some[0], extra={"label_weight": 0.5, "label_share": 0.8}), *some[1:]]
    positives, total = fit_prior(votes, FORM, 0).table.counts[""]
    assert total == plain.rows - 0.5
    assert positives == pytest.approx(plain.counts[""][0] - some[0].label + 0.5 * 0.8)
    sampled = LabeledPair(Pair("query 0", "goods,9"), 0, "n", {"source": "negative", "source_id": "0"})
    with_negative = fit_prior([*some, sampled], FORM, 0)
    assert with_negative.table == plain
    assert len(with_negative.features) == len(some) + 1


def test_the_default_is_on_for_categories_and_off_for_items():
    def prior(task, **head):
        return Recipe(name="x", task=task, head=head).decided_head.prior

    assert prior("qc")
    assert prior("qc", kind="mean")
    assert not prior("qc", prior=False)
    assert not prior("qc", kind="stock")
    assert not prior("qi")


@pytest.mark.parametrize(
    ("task", "kind", "reason"), [("qi", "paired", "items have no categories"), ("qc", "stock", "stock")]
)
def test_a_prior_that_cannot_be_is_refused(tmp_path, task, kind, reason):
    file = tmp_path / "recipe.toml"
    file.write_text(f'name = "x"\ntask = "{task}"\n[head]\nkind = "{kind}"\nprior = true\n')
    with pytest.raises(ConfigError, match=reason):
        Recipe.load(file)
