"""The limits that a request must keep before any work is done for it."""

from collections.abc import Iterator

from service.errors import InvalidRequestError, TooLargeError
from service.schemas import ScoreRequest
from service.settings import Settings


def check(request: ScoreRequest, settings: Settings) -> None:
    """Raise TooLargeError over a limit and InvalidRequestError for text that is none, naming place and limit."""
    if request.count > settings.max_candidates:
        what = "pairs" if request.candidates is None else "candidates"
        raise TooLargeError(f"{what}: {request.count} of them, expected at most {settings.max_candidates}")
    for where, text, limit in _texts(request, settings):
        if len(text) > limit:
            raise TooLargeError(f"{where}: {len(text)} characters, expected at most {limit}")
        if not text.replace(",", " ").strip():  # a category path of commas alone has no level
            raise InvalidRequestError(f"{where}: blank, expected text")
        if not _encodable(text):
            raise InvalidRequestError(
                f"{where}: half of a surrogate pair (as \\ud800) on its own, expected Unicode text"
            )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(request: ScoreRequest, settings: Settings) -> Iterator[tuple[str, str, int]]:
    if request.query is not None:
        yield "query", request.query, settings.max_query_chars
    for place, candidate in enumerate(request.candidates or ()):
        yield f"candidates[{place}]", candidate, settings.max_candidate_chars
    for place, pair in enumerate(request.pairs or ()):
        yield f"pairs[{place}].query", pair.query, settings.max_query_chars
        yield f"pairs[{place}].candidate", pair.candidate, settings.max_candidate_chars
