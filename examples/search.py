"""A search with re-ranking, as behind a search page: `python examples/search.py "running shoes for women"`.

BM25 finds candidates among the items of the synthetic sample shop, the service orders them within a budget. Stop the
service, freeze it (`kill -STOP`) or set a budget of 1 ms: the answer still comes in time, in BM25's order, and says
why.
"""

import argparse
import sys
import time
from collections.abc import Sequence

import httpx
from bm25 import TitleIndex
from lists import shop_items

from relevance.client import Client, RerankPolicy, RerankResult
from relevance.errors import RelevanceError

POLICY = RerankPolicy(fallback="keep_order", partial=True)
CANDIDATES, SHOWN = 50, 10


def kept_languages(url: str) -> set[str]:
    """Return the languages in which the served QI model does not beat its base model: keep BM25's order there.

    Empty where the service cannot be asked; a page asks once at its start.
    """
    try:
        models = httpx.get(f"{url}/v1/models", timeout=2).raise_for_status().json()["models"]
    except httpx.HTTPError:
        return set()
    advice = next((model["rerank_advice"] for model in models if model["task"] == "qi"), {})
    return {language for language, said in advice.items() if said == "keep_order"}


def search(index: TitleIndex, titles: Sequence[str], client: Client, options: argparse.Namespace) -> None:
    """Print the best titles, re-ranked unless the bundle's card advises against it."""
    began = time.perf_counter()
    found = [titles[place] for place in index.search(options.query, CANDIDATES).places]
    print(f"{len(found)} found in {1000 * (time.perf_counter() - began):.1f} ms")
    if options.language in kept_languages(options.url):
        print(f"NOT re-ranked: the bundle's card advises to keep the order of a search in {options.language}")
        result = RerankResult.kept("advice", len(found), request_id="")
    else:
        began = time.perf_counter()
        result = client.rerank("qi", options.query, found, options.language, budget_ms=options.budget_ms, policy=POLICY)
        said = "re-ranked" if result.reranked else f"NOT re-ranked ({result.reason}: {result.error or 'nothing found'})"
        print(f"{said}, {len(result.unscored)} without a score, in {1000 * (time.perf_counter() - began):.1f} ms")
    for place in result.order[:SHOWN]:
        score = result.scores[place]
        print(f"{place + 1:4} {'     -' if score is None else f'{score:6.3f}'}  {found[place]}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Search once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("query")
    parser.add_argument("--language", default=None, help="of the query, as `ja`; default: unknown")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of a service with a QI model")
    parser.add_argument("--budget-ms", type=float, default=200, help="the time for re-ranking")
    options = parser.parse_args(arguments)
    titles = [item.title for item in shop_items()]
    index = TitleIndex(titles)
    try:
        with Client(options.url) as client:
            search(index, titles, client, options)
    except RelevanceError as error:  # wrong arguments
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
