"""The README's figures and sample answer: the request that it shows, and the text with those of a result put in."""

import json
import re
from typing import Any

REQUEST = re.compile(r"(?<=/v1/score -H 'Content-Type: application/json' -d ')\{.*?\}(?=')", re.DOTALL)
ANSWER = re.compile(r"(?<=```json\n)\{\"task\".*?(?=\n```)", re.DOTALL)
SECONDS = r"[\d.]+(?= s\b)"
FIGURES = {  # what stands before each figure, by its name in the result
    "first_run_seconds": r"The first `make demo` took ",
    "second_run_seconds": r"the next one ",
    "first_score_after_installation_seconds": r"opened ",
}


def request(readme: str) -> Any:
    """Return the body of the request that the README shows."""
    found = REQUEST.search(readme)
    if found is None:
        raise ValueError("README.md: no request to /v1/score; expected one with -d '{...}'")
    return json.loads(found[0])


def renewed(readme: str, result: dict[str, Any]) -> str:
    """Return the README with the times and the answer of a result. Raises ValueError where it has no place for one."""
    readme = _put(ANSWER, _shown(result["answer"]), readme)
    for name, before in FIGURES.items():
        readme = _put(re.compile(f"(?<={before}){SECONDS}"), str(result[name]), readme)
    return readme


def _put(place: re.Pattern[str], text: str, readme: str) -> str:
    found, count = place.subn(lambda _: text, readme)
    if count != 1:
        raise ValueError(f"README.md: {count} places for {text[:40]!r}, expected one")
    return found


def _shown(answer: dict[str, Any]) -> str:
    """Return an answer as the README shows it: compact JSON in three lines."""
    text = json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
    for key in ("scores", "thresholds"):
        text = text.replace(f',"{key}":', f',\n "{key}":')
    return text
