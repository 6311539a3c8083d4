"""The stage of translation augmentation: labelled rows in, the same rows and translated ones out.

Only the query is translated; the candidate and the label stay, and rows of both labels are used. Where a translation is
missing or a gate rejects it, the next row is tried, until the wanted number is reached or rows run out.

Nothing of dev or test may come into training by way of a translation: give the rows of both as `held_out`.
Rows whose query is among theirs are not translated, and a translation that is one of their queries is
rejected. What the stage cannot see is where a memory comes from: one that was made of test or dev queries must not be
used here.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from relevance.tasks import LabeledPair, query_key
from training.data.extras import MERGED_IDS, MERGED_SOURCE_IDS, SOURCE_ID, is_made
from training.data.groups import held_keys
from training.data.votes import TAGGED_LANGUAGE
from training.embedding.embedder import Embedder
from training.progress import Meter
from training.translation.desk import Desk, Found
from training.translation.gates import Candidate, Gatekeeper, Verdict
from training.translation.options import TranslationOptions
from training.translation.plan import Quota, quota_for, target_languages
from training.translation.report import LanguageReport, Rejection, TranslationReport

_OF_SOURCE_ALONE = frozenset({MERGED_IDS, MERGED_SOURCE_IDS, TAGGED_LANGUAGE})
_ROUND_ROWS = 512  # rows a label that are translated and judged together
_Item = tuple[int, Found, Verdict]  # a row's number, its translation, and what the gates found
OnRejected = Callable[[Rejection], None]


def augment(
    rows: Sequence[LabeledPair],
    options: TranslationOptions,
    desk: Desk,
    *,
    held_out: Sequence[LabeledPair] = (),
    embedder: Embedder | None = None,
    on_rejected: OnRejected = lambda rejection: None,
) -> tuple[list[LabeledPair], TranslationReport]:
    """Return `rows` followed by the translated ones (by target, then by their source's place), and the report.

    `held_out` are the rows of dev and test; where the options name no target, it is the languages that they have and
    `rows` lack. The same rows, options and translations give the same result. Raises ConfigError, before anything is
    translated, for a target that nothing can translate into; TranslationStoppedError where a translator is down; and
    BudgetSpentError unless options.at_budget is `keep`. What was translated by then is in the desk's cache.
    """
    begun = time.monotonic()
    targets = target_languages(options, rows, held_out)
    kept_out = held_keys(held_out)
    quotas = [quota_for(target, rows, options, desk.supports, kept_out) for target in targets]
    queries = ((row.pair.query, row.pair.language) for row in rows if not is_made(row))
    gates = Gatekeeper(options.gates, queries, targets, embedder)
    stage = _Stage(rows, kept_out, _Asker(desk, options.at_budget == "keep"), gates, on_rejected)
    total = sum(quota.wanted or quota.eligible for quota in quotas)
    with Meter("translate", total, "row") as meter:
        for quota in quotas:
            stage.fill(quota, meter)
            if desk.spent:
                break
    seconds = time.monotonic() - begun
    report = TranslationReport(
        rows_in=len(rows),
        rows_out=len(rows) + len(stage.made),
        made=len(stage.made),
        translators=desk.names,
        languages=stage.reports,
        source_held_out=sum(query_key(row.pair.query) in kept_out for row in rows),
        texts_asked=desk.asked,
        cache_hits=desk.cache_hits,
        cost=desk.cost,
        seconds=round(seconds, 3),
        texts_per_second=round((desk.asked + desk.cache_hits) / max(seconds, 1e-9), 3),
        stopped=desk.spent,
    )
    return [*rows, *stage.made], report


class _Asker:
    """The desk as the stage and the round trip use it."""

    def __init__(self, desk: Desk, keep_at_budget: bool) -> None:
        self._desk, self._keep = desk, keep_at_budget

    @property
    def is_spent(self) -> bool:
        return self._desk.spent is not None

    def ask(self, texts: Sequence[str], source: str, target: str) -> dict[str, Found]:
        return self._desk.translate(texts, source, target, keep_at_budget=self._keep)

    def back(self, texts: Sequence[str], source: str, target: str) -> dict[str, str]:
        return {text: found.text for text, found in self.ask(texts, source, target).items()}


class _Stage:
    """Rows made so far, over all targets."""

    def __init__(
        self,
        rows: Sequence[LabeledPair],
        held_out: set[str],
        asker: "_Asker",
        gates: Gatekeeper,
        on_rejected: OnRejected,
    ) -> None:
        self.made: list[LabeledPair] = []
        self.reports: list[LanguageReport] = []
        self._rows, self._held_out, self._asker, self._gates = rows, held_out, asker, gates
        self._on_rejected = on_rejected
        # (query, candidate, language), and with None in place of the language: in any.
        self._pairs: set[tuple[str, str, str | None]] = set()
        for row in rows:
            key = query_key(row.pair.query)
            self._pairs |= {(key, row.pair.candidate, row.pair.language), (key, row.pair.candidate, None)}
        self._ids = {row.id for row in rows}
        self._begin()

    def fill(self, quota: Quota, meter: Meter) -> None:
        """Make the rows of one target."""
        while not self._asker.is_spent and (batch := quota.next_rows(_ROUND_ROWS)):
            before = len(self._accepted)
            self._count["tried"] += len(batch)
            found = self._translations(batch, quota.target)
            missing = [n for n in batch if n not in found]
            self._count["untranslated"] += len(missing)
            self._judge([n for n in batch if n in found], found, quota)
            done = len(batch) if quota.wanted is None else len(self._accepted) - before
            meter.advance(done, f"{quota.target}: {len(self._accepted):,} made, {self._rejected.total():,} rejected")
        self.close(quota)

    def close(self, quota: Quota) -> None:
        """Turn what was accepted for a target into rows, as many of each label as the balance allows, and report."""
        for n, text, verdict in self._waiting:
            detail = f"more than {self._gates.most_copies:.0%} copies"
            self._reject(self._rows[n], text, quota.target, replace(verdict, reason="copy_through", detail=detail))
        limits = quota.limits()
        kept: list[_Item] = []
        seen: Counter[int] = Counter()
        for item in self._accepted:
            label = self._rows[item[0]].label
            seen[label] += 1
            if limits is None or seen[label] <= limits[label]:
                kept.append(item)
        made = [self._row(*item, quota.target) for item in sorted(kept, key=lambda item: item[0])]
        self.made += made
        self.reports.append(
            LanguageReport(
                target=quota.target,
                wanted=quota.wanted,
                made=len(made),
                positive=sum(row.label for row in made),
                eligible=quota.eligible,
                tried=self._count["tried"],
                untranslated=self._count["untranslated"],
                trimmed=len(self._accepted) - len(kept),
                rejected=dict(sorted(self._rejected.items(), key=lambda item: (-item[1], item[0]))),
                sources=dict(Counter(str(row.extra["source_language"]) for row in made)),
                translators=dict(Counter(str(row.extra["strategy"]) for row in made)),
            )
        )
        self._begin()

    def _begin(self) -> None:
        self._accepted: list[_Item] = []
        self._waiting: list[_Item] = []  # copies that there is no room for yet
        self._count: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()

    def _translations(self, batch: list[int], target: str) -> dict[int, Found]:
        groups: defaultdict[str, list[int]] = defaultdict(list)
        for n in batch:
            groups[self._rows[n].pair.language].append(n)
        found: dict[int, Found] = {}
        for language, members in sorted(groups.items()):
            answers = self._asker.ask([self._rows[n].pair.query for n in members], language, target)
            found |= {n: answers[query] for n in members if (query := self._rows[n].pair.query) in answers}
        return found

    def _judge(self, batch: list[int], found: dict[int, Found], quota: Quota) -> None:
        pairs = [self._rows[n].pair for n in batch]
        candidates = [
            Candidate(pair.query, pair.language, found[n].text, quota.target)
            for n, pair in zip(batch, pairs, strict=True)
        ]
        for n, verdict in zip(batch, self._gates.judge(candidates, self._asker.back), strict=True):
            if verdict.reason is None and verdict.is_copy and not self._has_room_for_a_copy():
                self._waiting.append((n, found[n], verdict))
            else:
                self._settle((n, found[n], verdict), quota)
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            if self._has_room_for_a_copy() and quota.has_room(self._rows[item[0]].label):
                self._settle(item, quota)
            else:
                self._waiting.append(item)

    def _settle(self, item: _Item, quota: Quota) -> None:
        """Accept or reject one translation."""
        n, found, verdict = item
        row = self._rows[n]
        made = (query_key(found.text), row.pair.candidate, quota.target)
        reason = verdict.reason or self._repeated(*made, verdict.is_copy)
        if reason is not None:
            self._reject(row, found, quota.target, replace(verdict, reason=reason))
            return
        self._accepted.append(item)
        self._pairs.add(made)
        self._pairs.add((*made[:2], None))
        quota.add(row.pair.language, row.label)

    def _has_room_for_a_copy(self) -> bool:
        share = self._gates.most_copies
        copies = sum(verdict.is_copy for _, _, verdict in self._accepted)
        return share is None or copies + 1 <= share * (len(self._accepted) + 1)

    def _repeated(self, key: str, candidate: str, target: str, is_copy: bool) -> str | None:
        """Return why a row says nothing new. A copy repeats its source, so that only its own language counts."""
        if key in self._held_out:
            return "held_out"
        return "duplicate" if (key, candidate, target if is_copy else None) in self._pairs else None

    def _reject(self, row: LabeledPair, found: Found, target: str, verdict: Verdict) -> None:
        reason = verdict.reason or ""
        self._rejected[reason] += 1
        self._on_rejected(
            Rejection(
                source_id=row.id,
                source_language=row.pair.language,
                target=target,
                query=row.pair.query,
                translation=found.text,
                reason=reason,
                detail=verdict.detail,
            )
        )

    def _row(self, n: int, found: Found, verdict: Verdict, target: str) -> LabeledPair:
        row = self._rows[n]
        # Votes count for the translation too. Ids of merged rows and the tag of the source's query do not.
        kept = {name: value for name, value in row.extra.items() if name not in _OF_SOURCE_ALONE}
        provenance = {"source": "translation", SOURCE_ID: row.id, "strategy": found.translator}
        provenance |= {"source_language": row.pair.language}
        if verdict.similarity is not None:
            provenance |= {"similarity": verdict.similarity}
        pair = replace(row.pair, query=found.text, language=target)
        return LabeledPair(pair, row.label, self._new_id(f"{row.id}~{target}"), kept | provenance)

    def _new_id(self, wanted: str) -> str:
        """Return the id, with a number behind it where rows of one id make it not unique."""
        number, name = 1, wanted
        while name in self._ids:
            number += 1
            name = f"{wanted}.{number}"
        self._ids.add(name)
        return name
