"""The stage of translation augmentation: labelled rows in, the same rows and translated ones out.

Only the query is translated; candidate and label stay the same. Rows of both labels are used. If a translation is
missing or a gate rejects it, the stage tries the next row, until it has the wanted number or no row is left.

No dev or test query may reach training through a translation, so pass their rows as `held_out`. A row with one of their
queries is not translated; a translation that equals one of their queries is rejected. The stage cannot see where a
memory comes from: never use one that was made of dev or test queries.
"""

import functools
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from relevance.tasks import LabeledPair
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, is_made
from training.data.groups import group_key, held_keys
from training.data.votes.merging import TAGGED_LANGUAGE
from training.embedding.vectors import Embedder
from training.progress import Meter
from training.translation.chain import Translation, TranslatorChain
from training.translation.gates import Candidate, Gates, Verdict
from training.translation.options import TranslationOptions
from training.translation.quota import Quota, quota_for, target_languages
from training.translation.report import LanguageReport, Rejection, TranslationReport

_OF_SOURCE_ALONE = frozenset({MERGED_IDS, MERGED_SOURCE_IDS, TAGGED_LANGUAGE})
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
) -> tuple[list[LabeledPair], TranslationReport]:
    """Return `rows` followed by the translated ones (by target, then by their source's place), and the report.

    `held_out` are the rows of dev and test; without targets in the options, the targets are the languages that they
    have and `rows` lack. The same rows, options and translations give the same result. Raises ConfigError, before it
    translates anything, for a target that no translator supports; StoppedError if a translator is down; and
    BudgetSpentError unless options.at_budget is `keep`. Finished translations are in the chain's cache.
    """
    begun = time.monotonic()
    targets = target_languages(options, rows, held_out)
    kept_out = held_keys(held_out)
    quotas = [quota_for(target, rows, options, chain.supports, kept_out) for target in targets]
    queries = ((row.pair.query, row.pair.language) for row in rows if not is_made(row))
    gates = Gates(options.gates, queries, targets, embedder)
    known = _KnownRows(rows, kept_out)
    translate = functools.partial(chain.translate, keep_at_budget=options.at_budget == "keep")
    reports: list[LanguageReport] = []
    with Meter("translate", sum(quota.wanted or quota.eligible for quota in quotas), "row") as meter:
        for quota in quotas:
            target = _Target(known, quota, gates, translate, on_rejected)
            while not chain.spent and (batch := quota.next_rows(_ROUND_ROWS)):
                done = target.try_rows(batch)
                meter.advance(len(batch) if quota.wanted is None else done, target.progress())
            reports.append(target.close())
            if chain.spent:
                break
    seconds = time.monotonic() - begun
    report = TranslationReport(
        rows_in=len(rows),
        rows_out=len(rows) + len(known.made),
        made=len(known.made),
        translators=chain.names,
        languages=reports,
        source_held_out=sum(group_key(row.pair.query) in kept_out for row in rows),
        texts_asked=chain.asked,
        cache_hits=chain.cache_hits,
        cost=chain.cost,
        seconds=round(seconds, 3),
        texts_per_second=round((chain.asked + chain.cache_hits) / max(seconds, 1e-9), 3),
        stopped=chain.spent,
    )
    return [*rows, *known.made], report


@dataclass(frozen=True, slots=True)
class _Judged:
    """A row (by index), its translation, and what the gates found."""

    row: int
    found: Translation
    verdict: Verdict


class _KnownRows:
    """The given rows and those made so far, over all targets: finds duplicates and gives new ids."""

    def __init__(self, rows: Sequence[LabeledPair], held_out: set[str]) -> None:
        self.given, self.made = rows, list[LabeledPair]()
        self._held_out = held_out
        # (query, candidate, language), and with None in place of the language: in any.
        self._pairs: set[tuple[str, str, str | None]] = set()
        for row in rows:
            self.note(row.pair.query, row.pair.candidate, row.pair.language)
        self._ids = {row.id for row in rows}

    def note(self, query: str, candidate: str, language: str) -> None:
        """Note the pair of a query and a candidate."""
        self._pairs |= {(group_key(query), candidate, language), (group_key(query), candidate, None)}

    def repeated(self, query: str, candidate: str, target: str, is_copy: bool) -> str | None:
        """Return why a row would be a duplicate, or None. A copy is compared with rows of its own language only."""
        key = group_key(query)
        if key in self._held_out:
            return "held_out"
        return "duplicate" if (key, candidate, target if is_copy else None) in self._pairs else None

    def add(self, judged: _Judged, target: str) -> LabeledPair:
        """Make a row of a translation and return it."""
        row, verdict = self.given[judged.row], judged.verdict
        # Votes hold for the translation too; ids of merged rows and the tag of the source's query do not.
        extra = {name: value for name, value in row.extra.items() if name not in _OF_SOURCE_ALONE}
        extra |= {"source": "translation", SOURCE_ID: row.id, "strategy": judged.found.translator}
        extra |= {"source_language": row.pair.language}
        extra |= {} if verdict.similarity is None else {"similarity": verdict.similarity}
        # A number makes the id unique where several rows have the same id.
        wanted = f"{row.id}~{target}"
        names = itertools.chain([wanted], (f"{wanted}.{number}" for number in itertools.count(2)))
        new_id = next(name for name in names if name not in self._ids)
        self._ids.add(new_id)
        pair = replace(row.pair, query=judged.found.text, language=target)
        self.made.append(LabeledPair(pair, row.label, new_id, extra))
        return self.made[-1]


class _Target:
    """One target language: tries rows, accepts or rejects their translations, then makes the new rows."""

    def __init__(
        self,
        known: _KnownRows,
        quota: Quota,
        gates: Gates,
        translate: Callable[[Sequence[str], str, str], dict[str, Translation]],
        on_rejected: OnRejected,
    ) -> None:
        self._known, self._quota, self._gates, self._translate = known, quota, gates, translate
        self._on_rejected = on_rejected
        self._accepted: list[_Judged] = []
        self._waiting: list[_Judged] = []  # copies beyond the allowed share so far
        self._tried = self._untranslated = 0
        self._rejected: Counter[str] = Counter()

    def try_rows(self, batch: Sequence[int]) -> int:
        """Translate and judge some rows (by index); return how many translations were accepted."""
        before = len(self._accepted)
        found = self._translations(batch)
        self._tried += len(batch)
        self._untranslated += len(batch) - len(found)
        translated = [n for n in batch if n in found]
        pairs = [self._known.given[n].pair for n in translated]
        candidates = [
            Candidate(pair.query, pair.language, found[n].text, self._quota.target)
            for n, pair in zip(translated, pairs, strict=True)
        ]
        for n, verdict in zip(translated, self._gates.judge(candidates, self._back), strict=True):
            judged = _Judged(n, found[n], verdict)
            if verdict.reason is None and verdict.is_copy and not self._has_room_for_a_copy():
                self._waiting.append(judged)
            else:
                self._settle(judged)
        waiting, self._waiting = self._waiting, []
        for judged in waiting:
            if self._has_room_for_a_copy() and self._quota.has_room(self._known.given[judged.row].label):
                self._settle(judged)
            else:
                self._waiting.append(judged)
        return len(self._accepted) - before

    def progress(self) -> str:
        """Return the counts so far, for a progress line."""
        return f"{self._quota.target}: {len(self._accepted):,} made, {self._rejected.total():,} rejected"

    def close(self) -> LanguageReport:
        """Turn what was accepted into rows, as many of each label as the balance allows, and return the counts."""
        for judged in self._waiting:
            self._reject(judged, "copy_through", f"more than {self._gates.most_copies:.0%} copies")
        limits = self._quota.limits()
        kept: list[_Judged] = []
        seen: Counter[int] = Counter()
        for judged in self._accepted:
            label = self._known.given[judged.row].label
            seen[label] += 1
            if limits is None or seen[label] <= limits[label]:
                kept.append(judged)
        kept.sort(key=lambda judged: judged.row)
        made = [self._known.add(judged, self._quota.target) for judged in kept]
        return LanguageReport(
            target=self._quota.target,
            wanted=self._quota.wanted,
            made=len(made),
            positive=sum(row.label for row in made),
            eligible=self._quota.eligible,
            tried=self._tried,
            untranslated=self._untranslated,
            trimmed=len(self._accepted) - len(kept),
            rejected=dict(sorted(self._rejected.items(), key=lambda item: (-item[1], item[0]))),
            sources=dict(Counter(str(row.extra["source_language"]) for row in made)),
            translators=dict(Counter(str(row.extra["strategy"]) for row in made)),
        )

    def _translations(self, batch: Sequence[int]) -> dict[int, Translation]:
        by_language: defaultdict[str, dict[int, str]] = defaultdict(dict)
        for n in batch:
            pair = self._known.given[n].pair
            by_language[pair.language][n] = pair.query
        found: dict[int, Translation] = {}
        for language, queries in sorted(by_language.items()):
            answers = self._translate(list(queries.values()), language, self._quota.target)
            found |= {n: answers[query] for n, query in queries.items() if query in answers}
        return found

    def _back(self, texts: Sequence[str], source: str, target: str) -> dict[str, str]:
        return {text: found.text for text, found in self._translate(texts, source, target).items()}

    def _settle(self, judged: _Judged) -> None:
        """Accept or reject one translation."""
        row, verdict = self._known.given[judged.row], judged.verdict
        made = (judged.found.text, row.pair.candidate, self._quota.target)
        reason = verdict.reason or self._known.repeated(*made, verdict.is_copy)
        if reason is not None:
            self._reject(judged, reason, verdict.detail)
            return
        self._accepted.append(judged)
        self._known.note(*made)
        self._quota.add(row.pair.language, row.label)

    def _has_room_for_a_copy(self) -> bool:
        share = self._gates.most_copies
        copies = sum(judged.verdict.is_copy for judged in self._accepted)
        return share is None or copies + 1 <= share * (len(self._accepted) + 1)

    def _reject(self, judged: _Judged, reason: str, detail: str) -> None:
        row = self._known.given[judged.row]
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
