"""Which candidates are one, and which exclude one another."""

import pytest

from relevance.tasks import Task
from training.negatives.candidates import CandidatePool


@pytest.mark.parametrize("between", [" > ", ">", "|", " / ", ",", " -> ", "→", "::", " • ", " &gt; ", "\\"])
def test_ancestors_and_descendants_conflict_whatever_parts_the_levels(between):
    paths = [between.join(levels) for levels in (["home", "kitchen", "cups"], ["home"], ["home", "kitchen"], ["sport"])]
    pool = CandidatePool(paths, Task.QC, 0.85)
    assert [pool.conflict(number, 2) for number in range(4)] == ["descendant", "ancestor", "known_positive", None]


@pytest.mark.parametrize("task", [Task.QC, Task.QI])
def test_candidates_that_read_the_same_are_one(task):
    spellings = ["home,cups &amp; mugs", "Home,cups & mugs", "home,cups\u200b &  mugs", "home,cups ＆ mugs"]
    pool = CandidatePool([*spellings, "home,plates"], task, 0.85)
    assert pool.texts == ["home,cups &amp; mugs", "home,plates"]
    assert {pool.number(each) for each in spellings} == {0}
