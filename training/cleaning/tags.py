"""Rows whose language tag disagrees with their query: found by `text.languages`, handled by the options."""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from relevance.storage.strict import StrictModel
from relevance.tasks import UNKNOWN_LANGUAGE, LabeledPair
from training.cleaning.options import CleaningOptions, Tags
from training.data.stored.batches import mentions, to_batch, to_rows
from training.data.votes.merging import TAGGED_LANGUAGE, tag_of, tags_of
from training.text.languages import Caution, Outcome, TagJudge, Verdict

Tagged = tuple[str, str]  # a query and its language tag
_SHOWN = 20


class TagReport(StrictModel):
    """Distinct (query, tag) by outcome, rows with a wrong tag by `tag -> detected`, rows changed, examples."""

    outcomes: dict[str, int]
    disagreements: dict[str, int]
    changed_rows: int
    examples: tuple[tuple[str, str, str, float], ...] = Field(description="query, tag, detected, confidence")


class TagCounts:
    """Counts, over rows, the verdicts on their tags."""

    def __init__(self) -> None:
        self.changed_rows = 0
        self.judged = False
        self._outcomes: Counter[str] = Counter()
        self._disagreements: Counter[str] = Counter()
        self._examples: list[tuple[int, tuple[str, str, str, float]]] = []  # with the place of their first row

    def add(self, tagged: Sequence[Tagged], verdicts: Mapping[Tagged, Verdict], places: Sequence[int]) -> None:
        """Count the (query, tag) [N] of some rows: all rows that have them, with their places."""
        self.judged = True
        first: dict[Tagged, int] = {}
        for pair, place in zip(tagged, places, strict=True):
            first[pair] = min(place, first.get(pair, place))
        pairs = Counter(tagged)
        wrong = {pair: verdicts[pair] for pair in pairs if verdicts[pair].outcome is Outcome.DISAGREES}
        self._outcomes.update(str(verdicts[pair].outcome) for pair in pairs)
        for (query, tag), verdict in wrong.items():
            self._disagreements[f"{tag} -> {verdict.detected}"] += pairs[query, tag]
        for pair in heapq.nsmallest(_SHOWN, wrong, key=first.__getitem__):
            example = (*pair, wrong[pair].detected, round(wrong[pair].confidence, 3))
            self._examples.append((first[pair], example))

    def report(self) -> TagReport:
        """Return what was counted, most frequent first."""
        examples = heapq.nsmallest(_SHOWN, self._examples, key=lambda example: example[0])
        return TagReport(
            outcomes=most_first(self._outcomes),
            disagreements=most_first(self._disagreements),
            changed_rows=self.changed_rows,
            examples=tuple(example for _, example in examples),
        )


class TagChecker:
    """Handles wrong tags of rows by the options. It has to `see` all buckets of rows (PLACED) before it checks one.

    It judges the original tag of a row, so that a second check finds the same as the first.
    """

    def __init__(self, options: CleaningOptions) -> None:
        caution = Caution(options.tag_confidence, options.short_tag_confidence, shared_in=options.shared_in)
        self._judge, self._tags = TagJudge(caution, options.further_languages), options.tags
        self._counts = TagCounts()

    def see(self, bucket: pa.RecordBatch) -> None:
        """Take note of a bucket, which holds all rows of its queries."""
        self._judge.see(set(_tagged(bucket)))

    def check(self, bucket: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a bucket under the tags that the options give them."""
        tagged = _tagged(bucket)
        verdicts = self._judge.verdicts(tagged)
        self._counts.add(tagged, verdicts, bucket.column("place").to_pylist())
        judged = [verdicts[pair] for pair in tagged]
        looked_at = mentions(bucket, TAGGED_LANGUAGE) | np.array([_may_change(each, self._tags) for each in judged])
        mask = pa.array(looked_at)
        yield bucket.filter(pc.invert(mask))
        if looked_at.any():
            at, some = np.flatnonzero(looked_at).tolist(), bucket.filter(mask)
            rows = [_retagged(row, judged[n], self._tags) for n, row in zip(at, to_rows(some), strict=True)]
            self._counts.changed_rows += sum(row.pair.language != tag_of(row) for row in rows)
            yield to_batch(rows).append_column("place", some.column("place"))

    def report(self) -> TagReport:
        """Return what was found and changed so far."""
        return self._counts.report()


def most_first(counts: Counter[str]) -> dict[str, int]:
    """Return counts, the greatest first, equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _tagged(bucket: pa.RecordBatch) -> list[Tagged]:
    return list(zip(bucket.column("query").to_pylist(), tags_of(bucket).to_pylist(), strict=True))


def _may_change(verdict: Verdict, tags: Tags) -> bool:
    """Return whether the rows of a verdict may get another language."""
    return tags is not Tags.REPORT and verdict.outcome in (Outcome.DISAGREES, Outcome.UNTAGGED)


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
