"""Rows whose language tag disagrees with their query: found by `text.languages`, handled by the options."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import Field

from relevance.storage.strict import StrictModel
from relevance.tasks import UNKNOWN_LANGUAGE, LabeledPair
from training.cleaning.options import CleaningOptions, Tags
from training.data.votes import TAGGED_LANGUAGE, tag_of
from training.text.languages import Caution, Outcome, Verdict, check_tags

_SHOWN = 20


class TagReport(StrictModel):
    """Distinct (query, tag) by outcome, rows with a wrong tag by `tag -> detected`, rows changed, examples."""

    outcomes: dict[str, int]
    disagreements: dict[str, int]
    changed_rows: int
    examples: tuple[tuple[str, str, str, float], ...] = Field(description="query, tag, detected, confidence")


def check_rows(rows: Sequence[LabeledPair], options: CleaningOptions) -> tuple[list[LabeledPair], TagReport | None]:
    """Check the language tags of rows and handle wrong ones by `options.tags`; the report is None if that is off.

    It judges the original tag of a row, so that a second check finds the same as the first.
    """
    if options.tags is Tags.OFF:
        return list(rows), None
    caution = Caution(options.tag_confidence, options.short_tag_confidence, shared_in=options.shared_in)
    verdicts = check_tags(((row.pair.query, tag_of(row)) for row in rows), caution, options.further_languages)
    found = [verdicts[row.pair.query, tag_of(row)] for row in rows]
    changed = [_retagged(row, verdict, options.tags) for row, verdict in zip(rows, found, strict=True)]
    changed_rows = sum(row.pair.language != tag_of(row) for row in changed)
    return changed, report_tags([(row.pair.query, tag_of(row)) for row in rows], verdicts, changed_rows)


def report_tags(
    tagged: Sequence[tuple[str, str]], verdicts: Mapping[tuple[str, str], Verdict], changed_rows: int = 0
) -> TagReport:
    """Return the report on the (query, tag) of some rows, one a row, given the verdicts on all of them."""
    pairs = Counter(tagged)
    wrong = {pair: verdicts[pair] for pair in pairs if verdicts[pair].outcome is Outcome.DISAGREES}
    disagreements: Counter[str] = Counter()
    for (query, tag), verdict in wrong.items():
        disagreements[f"{tag} -> {verdict.detected}"] += pairs[query, tag]
    return TagReport(
        outcomes=dict(Counter(str(verdicts[pair].outcome) for pair in pairs).most_common()),
        disagreements=dict(disagreements.most_common()),
        changed_rows=changed_rows,
        examples=tuple(
            (query, tag, verdict.detected, round(verdict.confidence, 3))
            for (query, tag), verdict in list(wrong.items())[:_SHOWN]
        ),
    )


def _retagged(row: LabeledPair, verdict: Verdict, tags: Tags) -> LabeledPair:
    if tags is Tags.REPORT:
        return row
    tag = wanted = tag_of(row)
    if verdict.outcome is Outcome.DISAGREES:
        wanted = verdict.detected if tags is Tags.FIX else UNKNOWN_LANGUAGE
    elif verdict.outcome is Outcome.UNTAGGED and tag == UNKNOWN_LANGUAGE and tags is Tags.FIX:
        wanted = verdict.detected
    if wanted == row.pair.language:
        return row
    extra = {name: value for name, value in row.extra.items() if name != TAGGED_LANGUAGE}
    extra |= {TAGGED_LANGUAGE: tag} if wanted != tag else {}
    return replace(row, pair=replace(row.pair, language=wanted), extra=extra)
