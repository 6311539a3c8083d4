"""Scores the documents of other rerankers' shapes, which accept texts that `/v1/score` refuses.

A blank document gets the lowest score without a model run. A text over the character limit is cut before it is
tokenised, to more characters than the model reads, and its pair counts as truncated.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from starlette.requests import Request

from relevance.tasks import Pair
from service.api.context import context_of, service_of
from service.api.score_call import score_checked
from service.errors import InvalidRequestError, TooLargeError
from service.scoring.admission import FieldNames, check_pairs, is_blank
from service.scoring.request_context import Timing
from service.scoring.served_model import Scored, ServedModel
from service.settings import Settings

Document = str | dict[str, Any] | None

BLANK_LOGIT = float(np.finfo(np.float32).min)  # the lowest float32
CHARACTERS_A_TOKEN = 128  # eight times the longest piece of the vocabularies in use: formatting may shorten text
WORD_STEP = 5040  # a multiple of 1 to 10, the lengths of pieces that such words are split into


async def score_documents(
    request: Request,
    model: ServedModel,
    pairs: Sequence[Pair],
    names: FieldNames,
    *,
    truncate: bool = True,
    partial: bool = False,
) -> Scored:
    """Return the scores of pairs, in their order, by one model; where `partial`, of as many first ones as can be.

    Raises TooLargeError where a pair is longer than the model reads and `truncate` is false, and what
    `service.api.score_call.score_checked` and `service.scoring.admission.check_pairs` raise.
    """
    settings, record = service_of(request).settings, context_of(request).record
    check_pairs(pairs, settings, names, lenient=True)
    kept = [place for place, pair in enumerate(pairs) if not is_blank(pair.candidate)]
    texts, cut = shorten([pairs[place] for place in kept], settings, model.manifest.max_length)
    if not truncate:
        _refuse_cut([kept[place] for place in cut], model, names)
    scored = await score_checked(request, model, texts, partial=partial) if texts else _NOTHING
    record.task, record.version = model.task, model.manifest.version
    record.pairs = len(pairs) - len(scored.unscored)
    scored = _spread(scored, kept, cut, len(pairs))
    if not truncate:
        _refuse_cut(scored.truncated, model, names)
    return scored


def shorten(pairs: Sequence[Pair], settings: Settings, max_length: int) -> tuple[list[Pair], list[int]]:
    """Cut texts over the character limits to more than a model of `max_length` tokens reads.

    Returns the pairs and the places of those that lost text.
    """
    most = CHARACTERS_A_TOKEN * max_length
    known: dict[str, tuple[str, bool]] = {}

    def short(text: str, limit: int) -> tuple[str, bool]:
        if len(text) <= limit:
            return text, False
        if text not in known:
            known[text] = beginning(text, most)
        return known[text]

    kept, cut = [], []
    for place, pair in enumerate(pairs):
        query, query_cut = short(pair.query, settings.max_query_chars)
        candidate, candidate_cut = short(pair.candidate, settings.max_candidate_chars)
        kept.append(Pair(query, candidate, pair.language))
        if query_cut or candidate_cut:
            cut.append(place)
    return kept, cut


def beginning(text: str, most: int) -> tuple[str, bool]:
    """Return the first `most` characters of a text, each run of white space as one space, and whether more follow.

    Only the start of the text is processed, so a text of a megabyte costs little. A long word loses a multiple of
    WORD_STEP characters: a word that repeats itself (`aaaa...`) then still starts with the same tokens.
    """
    words = text.rstrip().split(None, most // 2 + 1)  # enough: each word has one character and a space at least
    folded = " ".join(words)
    if len(folded) <= most:
        return folded, False
    end = folded.find(" ", most)
    most += ((len(folded) if end < 0 else end) - most) % WORD_STEP
    return folded[:most], len(folded) > most


def document_text(document: Document, place: int, fields: tuple[str, ...]) -> str:
    """Return the text that a document is ranked by: a text itself, of an object the values of `fields`, a line each.

    Fields that an object does not have, and those that are null, are left out; a null document has no text. Raises
    InvalidRequestError for an object with none of the fields, and for a value that is not text.
    """
    if document is None or isinstance(document, str):
        return document or ""
    found = [document[field] for field in fields if field in document]
    texts = [value for value in found if value is not None]
    if not found or not all(isinstance(value, str) for value in texts):
        raise InvalidRequestError(f"documents[{place}]: expected a text, or an object with text under {list(fields)}")
    return "\n".join(texts)


def _refuse_cut(cut: Sequence[int], model: ServedModel, names: FieldNames) -> None:
    """Raise TooLargeError where pairs were cut; for callers that forbid it, as TEI does."""
    if cut:
        place = names.candidate.format(cut[0])
        raise TooLargeError(
            f"{place}: with its query longer than the {model.manifest.max_length} tokens that the model reads, and "
            f"`truncate` is false; {len(cut)} such"
        )


def _spread(scored: Scored, kept: Sequence[int], cut: Sequence[int], count: int) -> Scored:
    """Return the scores of all `count` pairs: those at the places `kept` were run, the others are blank."""
    scores, logits, labels = np.zeros(count), np.full(count, BLANK_LOGIT, np.float32), np.zeros(count, np.int64)
    scores[kept], logits[kept], labels[kept] = scored.scores, scored.logits, scored.labels
    truncated = [kept[place] for place in sorted({*cut, *scored.truncated})]
    unscored = [kept[place] for place in scored.unscored]
    return replace(scored, scores=scores, logits=logits, labels=labels.tolist(), truncated=truncated, unscored=unscored)


_NOTHING = Scored(
    scores=np.zeros(0),
    logits=np.zeros(0, np.float32),
    labels=[],
    thresholds={},
    truncated=[],
    tokens=0,
    timing=Timing(0.0, 0.0, 0.0, 0.0),
)
