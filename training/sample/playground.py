"""Writes what the service's page offers as examples: `python -m training.sample.playground`.

One query of the showcase in each language, with ten category paths and eight item titles to rank. The page cannot read
the shop itself: the service is installed without `training`.
"""

import json
import random
from pathlib import Path

from training.sample.queries import Query, Wording
from training.sample.shop import Leaf, ShowcaseQuery, load_shop, showcase

OUT = Path("service/api/page/static/sample.json")
FIRST = "ja"  # what the page shows when it opens: a query that shares no letter with its candidates
RIGHT_TITLES = 3
WRONG_TITLES = 5


def playground() -> list[dict[str, object]]:
    """Return the examples, always the same ones for the same shop."""
    leaves = {leaf.path: leaf for leaf in load_shop().leaves}
    found: dict[str, dict[str, object]] = {}
    for shown in showcase():
        if shown.language not in found:
            named = {"language": shown.language, "query": shown.query}
            found[shown.language] = named | {"qc": shown.candidates, "qi": _titles(shown, leaves)}
    return sorted(found.values(), key=lambda each: each["language"] != FIRST)


def _titles(shown: ShowcaseQuery, leaves: dict[str, Leaf]) -> list[str]:
    """Return titles of items that answer a query and of others, shuffled."""
    rng = random.Random(shown.query)
    wording = Wording(load_shop(), rng)
    right = leaves[shown.category_path]
    wrong = rng.sample([leaves[path] for path in shown.candidates if path != shown.category_path], WRONG_TITLES)
    asked = Query(shown.query, shown.language, right)
    titles = [wording.title(right, "en", asked) for _ in range(RIGHT_TITLES)]
    titles += [wording.title(leaf, "en") for leaf in wrong]
    rng.shuffle(titles)
    return titles


if __name__ == "__main__":
    OUT.write_text(json.dumps(playground(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
