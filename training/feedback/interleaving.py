"""The verdict on two models whose rankings were interleaved: whose candidates users click on.

Team-draft interleaving (Radlinski, Kurup, Joachims 2008, How does clickthrough data reflect retrieval quality?): a list
is won by the team that has more of its clicked candidates. The preference is the challenger's share of the lists with a
click, a tie counting one half; one half is a draw. Departures from the paper: the interval resamples whole queries
(bootstrap), since lists of one query are alike, and a winner needs both this interval and the sign test.
"""

import math
from collections import Counter
from pathlib import Path

import numpy as np

from relevance.errors import InputError
from relevance.evaluation.intervals import Interval, interval
from relevance.storage.strict import StrictModel
from relevance.tasks import Task
from training.feedback.log_store import LogStore, opened

RESAMPLES = 1000
SIGNIFICANT = 0.05
ALL = "all"  # languages together

_OUTCOMES = """
SELECT l.task, l.version, l.challenger, l.language, l.query, o.challenger - o.active FROM (
    SELECT c.list AS list, COUNT(DISTINCT CASE WHEN c.team = 'active' THEN c.hash END) AS active,
        COUNT(DISTINCT CASE WHEN c.team = 'challenger' THEN c.hash END) AS challenger
    FROM joined j JOIN events e ON e.id = j.event AND e.type = 'click'
    JOIN candidates c ON c.id = j.candidate AND c.team IS NOT NULL GROUP BY c.list
) o JOIN lists l ON l.id = o.list AND l.challenger IS NOT NULL ORDER BY 1, 2, 3, 4, 5
"""
_LISTS = """
SELECT task, version, challenger, language, COUNT(*) FROM lists WHERE challenger IS NOT NULL GROUP BY 1, 2, 3, 4
"""


class Preference(StrictModel):
    """How often users prefer the challenger, in one language or in all.

    `preference` in [0, 1] is the challenger's share of the lists with a click; `p` is that of the sign test, two-sided,
    over the lists that have a winner, None without any.
    """

    lists: int
    clicked: int
    challenger_wins: int
    active_wins: int
    ties: int
    queries: int
    preference: Interval
    p: float | None

    @property
    def verdict(self) -> str:
        """Return who is better: `challenger`, `active`, or `unproven`."""
        low, high = self.preference.low, self.preference.high
        if self.p is None or self.p >= SIGNIFICANT or low is None or high is None:
            return "unproven"
        return "challenger" if low > 0.5 else "active" if high < 0.5 else "unproven"


class Trial(StrictModel):
    """Two versions of a task's model, compared by language; the first entry is `all`."""

    task: Task
    active: str
    challenger: str
    verdict: str
    languages: dict[str, Preference]

    def text(self) -> str:
        """Return the comparison as text."""
        lines = [f"{self.task}: challenger {self.challenger} against active {self.active}: {self.verdict}"]
        for language, found in self.languages.items():
            p = "-" if found.p is None else f"{found.p:.3g}"
            lines.append(
                f"  {language:4} preference {found.preference:.3f}, p {p}; {found.challenger_wins} lists won, "
                f"{found.active_wins} lost, {found.ties} ties, {found.lists - found.clicked} without a click"
            )
        return "\n".join(lines)


class Trials(StrictModel):
    """All pairs of versions of a log, and its lines that could not be used."""

    trials: tuple[Trial, ...]
    unmatched: int
    bad_lines: int
    problems: str

    def text(self) -> str:
        """Return the comparisons as text."""
        left_out = f"{self.unmatched} events without their request, {self.bad_lines} bad lines"
        return "\n".join([*(trial.text() for trial in self.trials), left_out])


def judge(folder: Path, seed: int = 0) -> Trials:
    """Return the verdicts on a log. InputError where no list is interleaved."""
    with opened(folder) as store:
        lists = {tuple(row[:4]): row[4] for row in store.database.execute(_LISTS)}
        if not lists:
            raise InputError(f"{folder}: no list is interleaved; expected rerank requests with `interleave`")
        outcomes = _outcomes(store)
        trials = []
        for task, active, challenger in dict.fromkeys(key[:3] for key in lists):
            own = {key[3]: count for key, count in lists.items() if key[:3] == (task, active, challenger)}
            found = {language: outcomes.get((task, active, challenger, language), Counter()) for language in own}
            together = sum(found.values(), Counter())
            counts = {ALL: (sum(own.values()), together)} | {each: (own[each], found[each]) for each in sorted(own)}
            languages = {name: preference_of(*each, seed) for name, each in counts.items()}
            verdict = languages[ALL].verdict
            trials.append(Trial(task=task, active=active, challenger=challenger, verdict=verdict, languages=languages))
        return Trials(
            trials=tuple(trials),
            unmatched=store.count("unmatched"),
            bad_lines=len(store.bad),
            problems=store.bad.text(),
        )


def _outcomes(store: LogStore) -> dict[tuple[str, ...], Counter[tuple[int, int, int]]]:
    """Return, by task, versions and language, how many queries have each outcome: wins, losses and ties.

    Only the kinds of outcomes are kept, not the queries: memory stays bounded.
    """
    found: dict[tuple[str, ...], Counter[tuple[int, int, int]]] = {}
    current, outcome = None, [0, 0, 0]

    def end() -> None:
        if current is not None:
            found.setdefault(current[:4], Counter())[outcome[0], outcome[1], outcome[2]] += 1

    for *key, difference in store.database.execute(_OUTCOMES):
        if (where := tuple(key)) != current:
            end()
            current, outcome = where, [0, 0, 0]
        outcome[0 if difference > 0 else 1 if difference < 0 else 2] += 1
    end()
    return found


def preference_of(lists: int, queries: Counter[tuple[int, int, int]], seed: int) -> Preference:
    """Return the preference in `lists` lists; `queries` counts the queries by their wins, losses and ties."""
    kinds = np.array(list(queries) or [(0, 0, 0)], dtype=np.float64)
    times = np.array(list(queries.values()) or [0])
    wins, losses, ties = (int(each) for each in times @ kinds)
    clicked = wins + losses + ties
    return Preference(
        lists=lists,
        clicked=clicked,
        challenger_wins=wins,
        active_wins=losses,
        ties=ties,
        queries=int(times.sum()),
        preference=_interval(kinds, times, seed),
        p=_sign_test(wins, losses) if wins + losses else None,
    )


def _interval(kinds: np.ndarray, times: np.ndarray, seed: int) -> Interval:
    """Return the preference with its interval, queries resampled.

    Queries of one kind of outcome [K, 3] are exchangeable, so how often each kind is drawn is multinomial.
    """
    won, lists = kinds @ [1, 0, 0.5], kinds.sum(axis=1)
    count = int(times.sum())
    if not count:
        return interval(math.nan, np.zeros(0))
    draws = np.random.default_rng(seed).multinomial(count, times / count, size=RESAMPLES)
    value = float(times @ won / (times @ lists))
    return interval(value, draws @ won / (draws @ lists) if count > 1 else np.zeros(0))


def _sign_test(wins: int, losses: int) -> float:
    from scipy.stats import binomtest  # heavy, and needed for this alone

    return float(binomtest(wins, wins + losses).pvalue)
