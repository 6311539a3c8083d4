"""What a person needs to see of a flagged row: why it is flagged, and the rows most like it with their labels."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from relevance.tasks import LabeledPair, query_key
from training.selfvalidation.options import Flag
from training.text.likeness import bigram_f1

NEAREST = 5
MOST_COMPARED = 500  # rows with the same query or candidate that are compared; of more, some are taken evenly


@dataclass(frozen=True, slots=True)
class Grounds:
    """What a row's score was compared with.

    `threshold`: the judges' own, tuned in their fold; `means`: of the probability of label 1 of the rows labelled 0
    and of those labelled 1; `worse_than`: the share of the rows of the same label that are less doubtful. `rules` are
    the rules that flag the row, the adaptive one by the rule that it chose.
    """

    threshold: float
    means: tuple[float, float]
    worse_than: float
    rules: tuple[Flag, ...]


def reasons(label: int, score: float, grounds: Grounds) -> list[str]:
    """Return the reasons for a row's flags, a sentence each; `score` is the probability of label 1."""
    other, threshold = 1 - label, grounds.threshold
    found = []
    for rule in grounds.rules:
        if rule is Flag.CONTRADICTION:
            side = "below" if label else "at or above"
            found.append(
                f"The score {score:.2f} is {side} the judges' threshold {threshold:.2f}, and the label is {label}."
            )
        elif rule is Flag.BOUNDARY:
            found.append(f"The score {score:.2f} is close to the judges' threshold {threshold:.2f}: hard either way.")
        elif rule is Flag.CONFIDENT:
            found.append(_confident(label, score, grounds.means[other]))
    share = f"{grounds.worse_than:.0%}"
    return [*found, f"It is more doubtful than {share} of the rows labelled {label}."]


def _confident(label: int, score: float, mean: float) -> str:
    other = 1 - label
    is_like = score >= mean if other else score <= mean
    usual = f"Rows labelled {other} score {mean:.2f} on average; this one, labelled {label}, scores {score:.2f}"
    if is_like:
        return f"{usual}: it looks like one of them."
    return f"{usual}. By their estimated noise, some rows labelled {label} are wrong; this is among the most doubtful."


def nearest_rows(
    rows: Sequence[LabeledPair], of: Sequence[LabeledPair], count: int = NEAREST
) -> dict[str, list[LabeledPair]]:
    """Return for each row of `of`, by its id, the rows most like it that share its query or its candidate.

    Likeness is that of the characters of both texts (training.text.likeness). Rows are told apart by their ids. In
    memory are at most MOST_COMPARED rows of each query and of each candidate of `of`.
    """
    wanted = {text for row in of for text in _texts(row)}
    counts = Counter(text for row in rows for text in _texts(row) if text in wanted)
    steps = {text: max(1.0, count / MOST_COMPARED) for text, count in counts.items()}
    seen: Counter[tuple[str, str]] = Counter()
    by_text: defaultdict[tuple[str, str], list[LabeledPair]] = defaultdict(list)
    for row in rows:
        for text in _texts(row):
            if text in wanted:
                if seen[text] == int(len(by_text[text]) * steps[text]):  # some of many, taken evenly
                    by_text[text].append(row)
                seen[text] += 1
    found = {}
    for row in of:
        query, candidate = query_key(row.pair.query), query_key(row.pair.candidate)
        pool = [each for text in _texts(row) for each in by_text[text]]
        others = {each.id: each for each in pool if each.id != row.id}

        def likeness(each: LabeledPair, query: str = query, candidate: str = candidate) -> float:
            return bigram_f1(query, query_key(each.pair.query)) + bigram_f1(candidate, query_key(each.pair.candidate))

        found[row.id] = sorted(others.values(), key=lambda each: -likeness(each))[:count]
    return found


def _texts(row: LabeledPair) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("query", query_key(row.pair.query)), ("candidate", query_key(row.pair.candidate))
