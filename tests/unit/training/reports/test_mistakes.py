import numpy as np

from relevance.evaluation.metrics import Scored
from relevance.tasks import LabeledPair, Pair
from training.reports.mistakes import MOST_WORDS, SHOWN, words, worst

VALUES = {"red": 2.0, "shoes": 1.0, "blue": -3.0}


def run(rows):
    """A model that adds up the values of words: those of the query twofold."""
    return np.array([2 * _sum(row.pair.query) + _sum(row.pair.candidate) for row in rows])


def _sum(text):
    return sum(VALUES.get(word, 0.0) for word in text.split())


def found(rows):
    logits = run(rows)
    scores = 1 / (1 + np.exp(-logits))
    count = len(rows)
    labels = [row.label for row in rows]
    return worst(rows, Scored(labels, scores.tolist(), ["q"] * count, ["en"] * count, [0.5] * count), logits, run)


def row(query, candidate, label, row_id="1"):
    return LabeledPair(Pair(query, candidate, "en"), label, row_id)


def test_the_effect_of_a_word_is_what_the_logit_loses_without_it():
    (mistake,) = found([row("red hat", "blue red shoes", 0)])
    assert [(each.word, each.side, each.change) for each in mistake.effects] == [
        ("red", "query", 4.0),
        ("blue", "candidate", -3.0),
        ("red", "candidate", 2.0),
        ("shoes", "candidate", 1.0),
        ("hat", "query", 0.0),
    ]


def test_right_rows_are_no_mistakes_and_the_worst_come_first():
    rows = [row("red", "x", 1, "right"), row("blue", "x", 0, "right too")]
    rows += [row("hat", "shoes", 0, "near"), row("red", "red", 0, "far"), row("blue", "x", 1, "missed")]
    assert [each.id for each in found(rows)] == ["far", "near", "missed"]
    assert len(found([row("red", "x", 0)] * 80 + [row("blue", "x", 1)] * 70)) == 2 * SHOWN
    assert found(rows[:2]) == []


def test_long_texts_are_cut_to_some_words():
    (mistake,) = found([row("red", "shoes " * 100, 0)])
    assert len(mistake.effects) == MOST_WORDS + 1


def test_words_of_scripts_without_spaces_are_runs_of_one_script():
    texts = {
        "青い靴 Nike-Air": ["青", "い", "靴", "Nike-Air"],
        "home & garden,kids' 2.5 mm": ["home", "garden", "kids", "2.5", "mm"],
        "हिन्दी जूते": ["हिन्दी", "जूते"],
        "d’oreille": ["d’oreille"],
        "": [],
    }
    for text, expected in texts.items():
        assert [text[start:end] for start, end in words(text)] == expected
