"""The stage of semantic negative sampling: labelled rows in, the same rows and negatives out.

A negative is a query of a positive row with another candidate, under label 0. Candidates are chosen by their
similarity to the query, as the paper (arXiv 2510.21671) chooses paths near the positive one. It does not publish its
model, band and ratio; those here are this project's own. Give only rows to train on: this stage
knows nothing of dev and test rows.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task
from relevance.text.formatting import PairFormat
from training.data.extras import SOURCE_ID
from training.embedding.candidate_vectors import Vectors
from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, PairEncoder
from training.negatives.candidates import CandidatePool, KnownPairs
from training.negatives.near_queries import NearQueries, near_groups
from training.negatives.options import NegativeOptions
from training.negatives.quota import Quota
from training.negatives.report import NegativesReport, SimilarityHistogram
from training.negatives.sampler import Negative, Sampler, SampleRequest
from training.negatives.search import CandidateSearch
from training.negatives.vet import RowScorer
from training.progress import Meter

_NEGATIVE = "negative"
_BLOCK_ROWS = 8192  # rows that are drawn for before progress is shown


def sample_negatives(
    rows: Sequence[LabeledPair],
    task: Task,
    options: NegativeOptions,
    encoder: PairEncoder,
    *,
    vet: RowScorer | None = None,
    extra_candidates: Sequence[str] = (),
) -> tuple[list[LabeledPair], NegativesReport]:
    """Return `rows` followed by the negatives, by their source's place, and the report.

    Sources are all positive rows, translated ones included. Candidates are those of all rows and `extra_candidates`,
    such as the paths of a whole taxonomy. ConfigError where negatives are wanted and none can be made; InputError
    where no row is positive or an extra candidate is blank; MachineError where an index is needed and cannot be had.
    """
    blank = next((n for n, text in enumerate(extra_candidates, 1) if not text.strip()), None)
    if blank is not None:
        raise InputError(f"negatives: extra candidate {blank} of {len(extra_candidates):,} is blank; expected a text")
    if options.strategy == "none":
        return list(rows), _report(rows, options, "none", None, [])
    rows = list(rows)
    quotas = _quotas(rows, options, attempts=2 if vet else 1)
    pool = CandidatePool(rows, task, options.near_title, extra_candidates)
    found: list[LabeledPair] = []
    if any(quota.wanted for quota in quotas):
        known = KnownPairs(rows, pool, near_groups(rows))
        filler = _QuotaFiller(rows, task, pool, quotas, encoder, options)
        near = filler.near_queries(known, options.near_query)
        filler.run(Sampler(rows, pool, known, options, near), vet, options.vet_margin)
        found = _negatives(rows, pool, [pick for quota in quotas for pick in quota.made])
        if not found:
            raise ConfigError(_nothing(rows, pool, options, quotas))
    return [*rows, *found], _report(rows, options, encoder.name, pool, quotas)


class _QuotaFiller:
    """Fills the quotas, round by round, in blocks of rows."""

    def __init__(
        self,
        rows: list[LabeledPair],
        task: Task,
        pool: CandidatePool,
        quotas: list[Quota],
        encoder: PairEncoder,
        options: NegativeOptions,
    ) -> None:
        form = PairFormat().fitted(task, pool.texts)
        self._rows, self._pool, self._quotas = rows, pool, quotas
        sources = [row for quota in quotas for row in quota.sources]  # near queries may be of any language
        texts = [form.query_text(rows[row].pair.query) for row in sources]
        number = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        self._own_logits: dict[int, float] = {}  # row -> logit of its positive by the vetting model
        self._query_of = {row: number[text] for row, text in zip(sources, texts, strict=True)}
        paths = [form.candidate_text(task, text) for text in pool.texts]
        candidates = Vectors(encoder, paths, CANDIDATE_PREFIX, centred=options.centred)
        self._queries = Vectors(encoder, list(number), QUERY_PREFIX, centred=options.centred)
        self._search = CandidateSearch(self._queries, candidates, options)

    def near_queries(self, known: KnownPairs, least: float) -> NearQueries:
        """Return the finder of candidates that are positive for a near query."""
        return NearQueries(self._queries.centred(), self._query_of, self._rows, known, least)

    def run(self, sampler: Sampler, vet: RowScorer | None, vet_margin: float) -> None:
        """Fill the quotas as far as possible, all languages in one round, so that `vet` is called with many rows."""
        with Meter("negatives", sum(quota.wanted for quota in self._quotas), "row") as meter:
            while True:
                rounds = [(quota, quota.next_round()) for quota in self._quotas]
                if not any(asked for _, asked in rounds):
                    return
                trial: list[tuple[Quota, Negative]] = []
                for quota, asked in rounds:
                    for picks in self._round(quota, asked, sampler):
                        if vet is None:
                            quota.accept(picks)
                            meter.advance(len(picks))
                        else:
                            trial += [(quota, pick) for pick in picks]
                if vet is not None and trial:
                    meter.advance(self._vetted(trial, vet, vet_margin))

    def _round(self, quota: Quota, asked: list[tuple[int, int]], sampler: Sampler) -> Iterator[list[Negative]]:
        """Yield, block by block, the negatives that a quota still needs, from as few rows as possible."""
        missing, at = quota.missing, 0
        while missing and at < len(asked):
            block: list[tuple[int, int]] = []
            planned = 0
            while planned < missing and len(block) < _BLOCK_ROWS and at < len(asked):
                row, count = asked[at]
                block.append((row, min(count, missing - planned)))
                planned += block[-1][1]
                at += 1
            block.sort(key=lambda one: self._query_of[one[0]])  # rows of one query are searched for once
            picks = self._block(quota, block, sampler)
            missing -= len(picks)
            yield picks

    def _block(self, quota: Quota, block: list[tuple[int, int]], sampler: Sampler) -> list[Negative]:
        own = self._search.similarity(
            [self._query_of[row] for row, _ in block],
            [self._pool.number(self._rows[row].pair.candidate) for row, _ in block],
        )
        requests: defaultdict[str, list[SampleRequest]] = defaultdict(list)
        for (row, count), similarity in zip(block, own.tolist(), strict=True):
            for request in sampler.requests(row, count, quota.asked[row], similarity):
                requests[request.strategy].append(request)
        picks: list[Negative] = []
        for strategy in sorted(requests):
            picks += self._drawn(strategy, requests[strategy], quota, sampler)
        found = Counter(pick.row for pick in picks)
        for row, count in block:
            quota.count(row, count, found[row])
        return picks

    def _drawn(self, strategy: str, requests: list[SampleRequest], quota: Quota, sampler: Sampler) -> list[Negative]:
        picks: list[Negative] = []
        for search in self._search.searches(strategy):
            left: list[SampleRequest] = []
            shortlists = self._search.shortlists(search, [self._query_of[request.row] for request in requests])
            for request, shortlist in zip(requests, shortlists, strict=True):
                drawn = sampler.draw(request, shortlist, quota.rejected)
                picks += drawn
                if len(drawn) < request.count:
                    left.append(replace(request, count=request.count - len(drawn)))
            requests = left
            if not requests:
                break
        return picks

    def _vetted(self, picks: list[tuple[Quota, Negative]], vet: RowScorer, margin: float) -> int:
        """Accept the negatives whose logits are `margin` below their positives'; return their number."""
        new = list(dict.fromkeys(pick.row for _, pick in picks if pick.row not in self._own_logits))
        made = [_negative(self._rows[pick.row], self._pool, pick, "vet") for _, pick in picks]
        logits = vet([*made, *(self._rows[row] for row in new)])
        self._own_logits.update(zip(new, logits[len(made) :].tolist(), strict=True))
        accepted = 0
        for (quota, pick), logit in zip(picks, logits[: len(made)].tolist(), strict=True):
            if logit < self._own_logits[pick.row] - margin:
                quota.accept([pick])
                accepted += 1
            else:
                quota.rejected["vet"] += 1
        return accepted


def _quotas(rows: list[LabeledPair], options: NegativeOptions, attempts: int) -> list[Quota]:
    """Return a quota for each language, in the order of their codes; the order of its sources is drawn by the seed."""
    labels = Counter((row.pair.language, row.label) for row in rows)
    sources: defaultdict[str, list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        if row.label == 1:
            sources[row.pair.language].append(n)
    if not sources:
        raise InputError(f"negatives: none of {len(rows):,} rows is positive; expected positive rows to make them of")
    languages = sorted({language for language, _ in labels})
    for language in options.language_rates:
        if language not in languages:
            raise ConfigError(f"language_rates: no row is in {language!r}; expected one of {', '.join(languages)}")
    quotas = []
    for language in languages:
        positives, negatives = labels[language, 1], labels[language, 0]
        wanted, limit = options.wanted(language, positives, negatives), options.source_limit
        random.Random(f"{options.seed}/{language}").shuffle(sources[language])
        quotas.append(Quota(language, positives, negatives, wanted, limit, attempts * limit, sources[language]))
    return quotas


def _negatives(rows: list[LabeledPair], pool: CandidatePool, picks: list[Negative]) -> list[LabeledPair]:
    ids = {row.id for row in rows}
    last: Counter[str] = Counter()
    made = []
    for pick in sorted(picks, key=lambda pick: pick.row):
        source = rows[pick.row]
        last[source.id] += 1
        while f"{source.id}~neg{last[source.id]}" in ids:
            last[source.id] += 1
        made.append(_negative(source, pool, pick, f"{source.id}~neg{last[source.id]}"))
    return made


def _negative(source: LabeledPair, pool: CandidatePool, pick: Negative, new_id: str) -> LabeledPair:
    """Return the row. Of the source's extras only the query's language stays: the others may describe the positive."""
    extra = {name: source.extra[name] for name in ("source_language",) if name in source.extra}
    extra |= {"source": _NEGATIVE, SOURCE_ID: source.id, "strategy": pick.strategy}
    extra |= {"similarity": round(pick.similarity, 4)}
    pair = Pair(source.pair.query, pool.texts[pick.candidate], source.pair.language)
    return LabeledPair(pair, 0, new_id, extra)


def _nothing(rows: list[LabeledPair], pool: CandidatePool, options: NegativeOptions, quotas: list[Quota]) -> str:
    reasons = _report(rows, options, "", pool, quotas).rejected()
    why = ", ".join(f"{count:,} {name}" for name, count in reasons.items()) or "no candidate"
    wanted = sum(quota.wanted for quota in quotas)
    return (
        f"negatives: none of the {wanted:,} wanted can be made with strategy {options.strategy!r} of {len(pool):,} "
        f"candidates ({why}); expected a wider band, a larger positive share or more candidates"
    )


def _report(
    rows: Sequence[LabeledPair],
    options: NegativeOptions,
    encoder: str,
    pool: CandidatePool | None,
    quotas: list[Quota],
) -> NegativesReport:
    picks = [pick for quota in quotas for pick in quota.made]
    return NegativesReport(
        strategy=options.strategy,
        encoder=encoder,
        rows_in=len(rows),
        rows_out=len(rows) + len(picks),
        made=len(picks),
        candidates=len(pool) if pool else 0,
        extra_candidates=len(pool) - pool.of_rows if pool else 0,
        searches=dict(sorted(Counter(pick.search for pick in picks).items())),
        languages=[quota.report() for quota in quotas],
        similarity=SimilarityHistogram.of(
            [pick.similarity for pick in picks],
            list({pick.row: pick.positive_similarity for pick in picks}.values()),
        ),
    )
