"""The stage of translation augmentation: labelled rows in, the same rows and translated ones out.

Only the query is translated; candidate and label stay the same. Rows of both labels are used. If a translation is
missing or a gate rejects it, the stage tries the next row, until it has the wanted number or no row is left.

No dev or test query may reach training through a translation, so pass their rows as `held_out`. A row with one of their
queries is not translated; a translation that equals one of their queries is rejected. The stage cannot see where a
memory comes from: never use one that was made of dev or test queries.
"""

import functools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from relevance.tasks import LabeledPair
from training.data.groups import group_key
from training.data.stored.rows import StoredRows, chained, on_disk, queries_of
from training.data.stored.text_hashes import TextHashes
from training.embedding.vectors import Embedder
from training.progress import Meter
from training.translation.chain import Translation, TranslatorChain
from training.translation.gates import Candidate, Gates
from training.translation.judged import Judged, JudgedQueue, WaitingCopies, made_rows
from training.translation.known import KnownPairs
from training.translation.options import TranslationOptions
from training.translation.quota import LABELS, Quota, quota_for, target_languages
from training.translation.report import LanguageReport, Rejection, TranslationReport
from training.translation.sources import Source, SourceRows

_ROUND_ROWS = 512  # rows a label that are translated and judged together
OnRejected = Callable[[Rejection], None]


def augment(
    rows: Sequence[LabeledPair],
    options: TranslationOptions,
    chain: TranslatorChain,
    *,
    held_out: Sequence[LabeledPair] = (),
    embedder: Embedder | None = None,
    on_rejected: OnRejected = lambda rejection: None,
) -> tuple[StoredRows, TranslationReport]:
    """Return `rows` followed by the translated ones (by target, then by their source's place), and the report.

    `held_out` are the rows of dev and test; without targets in the options, the targets are the languages that they
    have and `rows` lack. The same rows, options and translations give the same result. In memory are some 20 bytes a
    row and 16 a row made; the rest lies in temporary files. Raises ConfigError, before it translates anything, for a
    target that no translator supports; StoppedError if a translator is down; BudgetSpentError unless options.at_budget
    is `keep`; and MachineError if the disk is full. Finished translations are in the chain's cache.
    """
    begun = time.monotonic()
    rows = on_disk(rows)
    targets = target_languages(options, rows, held_out)
    kept_out = TextHashes()
    for query in queries_of(held_out):
        kept_out.add(group_key(query))
    known = KnownPairs(kept_out, targets)
    sources = SourceRows(rows, kept_out, known)
    quotas = [quota_for(target, sources.originals, sources.eligible, options, chain.supports) for target in targets]
    gates = Gates(options.gates, sources.queries(), [*sources.originals, *targets], embedder)
    translate = functools.partial(chain.translate, keep_at_budget=options.at_budget == "keep")
    reports: list[LanguageReport] = []
    made: list[StoredRows] = []
    with Meter("translate", sum(quota.wanted or quota.eligible for quota in quotas), "row") as meter:
        for quota in quotas:
            target = _Target(known, quota, gates, translate, on_rejected)
            in_turn = sources.in_turn(quota.languages, f"{options.seed}/{quota.target}")
            while not chain.spent and (counts := quota.next_counts(_ROUND_ROWS)):
                batch = [source for stratum, count in counts for source in in_turn.take(stratum, count)]
                done = target.try_rows(batch)
                meter.advance(len(batch) if quota.wanted is None else done, target.progress())
            made.append(target.close(rows))
            reports.append(target.report(made[-1]))
            if chain.spent:
                break
    seconds = time.monotonic() - begun
    count = sum(map(len, made))
    report = TranslationReport(
        rows_in=len(rows),
        rows_out=len(rows) + count,
        made=count,
        translators=chain.names,
        languages=reports,
        source_held_out=sources.held_out,
        texts_asked=chain.asked,
        cache_hits=chain.cache_hits,
        cost=chain.cost,
        seconds=round(seconds, 3),
        texts_per_second=round((chain.asked + chain.cache_hits) / max(seconds, 1e-9), 3),
        stopped=chain.spent,
    )
    return chained(rows, *made), report


class _Target:
    """One target language: tries rows, accepts or rejects their translations, then makes the new rows."""

    def __init__(
        self,
        known: KnownPairs,
        quota: Quota,
        gates: Gates,
        translate: Callable[[Sequence[str], str, str], dict[str, Translation]],
        on_rejected: OnRejected,
    ) -> None:
        self._known, self._quota, self._gates, self._translate = known, quota, gates, translate
        self._on_rejected = on_rejected
        self._accepted = JudgedQueue()
        self._waiting = WaitingCopies()  # beyond the allowed share so far
        self._tried = self._untranslated = self._judged = self._copies = self._made = 0
        self._rejected: Counter[str] = Counter()

    def try_rows(self, batch: Sequence[Source]) -> int:
        """Translate and judge some rows; return how many translations were accepted."""
        before = self._made
        found = self._translations(batch)
        self._tried += len(batch)
        self._untranslated += len(batch) - len(found)
        translated = [source for source in batch if source.place in found]
        pairs = [source.row.pair for source in translated]
        candidates = [
            Candidate(pair.query, pair.language, found[source.place].text, self._quota.target)
            for source, pair in zip(translated, pairs, strict=True)
        ]
        for source, verdict in zip(translated, self._gates.judge(candidates, self._back), strict=True):
            judged = Judged(source, found[source.place], verdict, self._judged)
            self._judged += 1
            if verdict.reason is None and verdict.is_copy and not self._has_room_for_a_copy():
                self._waiting.add(judged)
            else:
                self._settle(judged)
        while self._has_room_for_a_copy():
            waiting = self._waiting.take([label for label in LABELS if self._quota.has_room(label)])
            if waiting is None:
                break
            self._settle(waiting)
        return self._made - before

    def progress(self) -> str:
        """Return the counts so far, for a progress line."""
        return f"{self._quota.target}: {self._made:,} made, {self._rejected.total():,} rejected"

    def close(self, given: StoredRows) -> StoredRows:
        """Turn what was accepted into rows, as many of each label as the balance allows, and return them."""
        while (waiting := self._waiting.take()) is not None:
            self._reject(waiting, "copy_through", f"more than {self._gates.most_copies:.0%} copies")
        return made_rows(self._balanced(), self._made, self._quota.target, given)

    def report(self, made: StoredRows) -> LanguageReport:
        """Return the counts, given the rows that were made."""
        labels: Counter[int] = Counter()
        sources: Counter[str] = Counter()
        translators: Counter[str] = Counter()
        for row in made:
            labels[row.label] += 1
            sources[str(row.extra["source_language"])] += 1
            translators[str(row.extra["strategy"])] += 1
        return LanguageReport(
            target=self._quota.target,
            wanted=self._quota.wanted,
            made=len(made),
            positive=labels[1],
            eligible=self._quota.eligible,
            tried=self._tried,
            untranslated=self._untranslated,
            trimmed=self._made - len(made),
            rejected=dict(sorted(self._rejected.items(), key=lambda item: (-item[1], item[0]))),
            sources=dict(sources),
            translators=dict(translators),
        )

    def _balanced(self) -> Iterator[Judged]:
        """Yield what was accepted, less the last ones of a label of which there are too many."""
        limits = self._quota.limits()
        seen: Counter[int] = Counter()
        while len(self._accepted):
            judged = self._accepted.take()
            label = judged.source.row.label
            seen[label] += 1
            if limits is None or seen[label] <= limits[label]:
                yield judged

    def _translations(self, batch: Sequence[Source]) -> dict[int, Translation]:
        """Return the translation of each row that has one, by the row's place."""
        by_language: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for source in batch:
            by_language[source.row.pair.language][source.place] = source.row.pair.query
        found: dict[int, Translation] = {}
        for language, queries in sorted(by_language.items()):
            answers = self._translate(list(queries.values()), language, self._quota.target)
            found |= {place: answers[query] for place, query in queries.items() if query in answers}
        return found

    def _back(self, texts: Sequence[str], source: str, target: str) -> dict[str, str]:
        return {text: found.text for text, found in self._translate(texts, source, target).items()}

    def _settle(self, judged: Judged) -> None:
        """Accept or reject one translation."""
        row, verdict, target = judged.source.row, judged.verdict, self._quota.target
        text, candidate = judged.found.text, row.pair.candidate
        reason = verdict.reason or self._known.repeated(text, candidate, target, verdict.is_copy)
        if reason is not None:
            self._reject(judged, reason, verdict.detail)
            return
        self._accepted.add(judged)
        self._made += 1
        self._copies += verdict.is_copy
        self._known.note(group_key(text), candidate, target)
        self._quota.add(row.pair.language, row.label)

    def _has_room_for_a_copy(self) -> bool:
        share = self._gates.most_copies
        return share is None or self._copies + 1 <= share * (self._made + 1)

    def _reject(self, judged: Judged, reason: str, detail: str) -> None:
        row = judged.source.row
        self._rejected[reason] += 1
        self._on_rejected(
            Rejection(
                source_id=row.id,
                source_language=row.pair.language,
                target=self._quota.target,
                query=row.pair.query,
                translation=judged.found.text,
                reason=reason,
                detail=detail,
            )
        )
