"""The stage of semantic negative sampling: labelled rows in, the same rows and negatives out.

A negative is a query of a positive row with a candidate of another row, under label 0. Candidates are chosen by their
similarity to the query, as the seed paper (arXiv 2510.21671) chooses paths near the positive one; its model, band and
ratio are not published, so that those here are this project's own. Dev and test rows are no business of this stage: the
rows given are those to train on.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError, InputError
from relevance.formatting import PairFormat
from relevance.tasks import LabeledPair, Pair, Task
from training.negatives.candidates import CandidatePool
from training.negatives.drawing import Drawer, Pick
from training.negatives.embedding import CANDIDATE_PREFIX, QUERY_PREFIX, PairEncoder
from training.negatives.known import KnownPairs
from training.negatives.options import NegativeOptions
from training.negatives.quota import Quota
from training.negatives.report import Histogram, NegativesReport
from training.negatives.vet import Vet
from training.progress import Meter

_BLOCK_CELLS = 1 << 24  # similarities held at once: 64 MiB
_LEAST_BLOCK_ROWS, _MOST_BLOCK_ROWS = 32, 1024
_NEGATIVE = "negative"


def sample_negatives(
    rows: Sequence[LabeledPair],
    task: Task,
    options: NegativeOptions,
    encoder: PairEncoder,
    *,
    vet: Vet | None = None,
) -> tuple[list[LabeledPair], NegativesReport]:
    """Return `rows` followed by the negatives, by their source's place, and the report.

    Sources are all positive rows, translated ones included. Search is exact, over at most 100,000 different candidates:
    ConfigError for more, and where negatives are wanted and none can be made. InputError where no row is positive.
    """
    if options.strategy == "none":
        return list(rows), _report(rows, options, "none", candidates=0, quotas=[])
    rows = list(rows)
    quotas = _quotas(rows, options, attempts=2 if vet else 1)
    pool = CandidatePool(rows, task, options.near_title)
    found: list[LabeledPair] = []
    if any(quota.wanted for quota in quotas):
        known = KnownPairs(rows, pool)
        drawer = Drawer(rows, pool, known, options)
        search = _Search(rows, task, pool, quotas, encoder, options.centred)
        search.run(drawer, vet, options.vet_above)
        found = _negatives(rows, pool, [pick for quota in quotas for pick in quota.made])
        if not found:
            raise ConfigError(_nothing(rows, pool, options, quotas))
    report = _report(rows, options, encoder.name, candidates=len(pool), quotas=quotas)
    return [*rows, *found], report


class _Search:
    """Exact search for the sources of the quotas, in blocks."""

    def __init__(
        self,
        rows: list[LabeledPair],
        task: Task,
        pool: CandidatePool,
        quotas: list[Quota],
        encoder: PairEncoder,
        centred: bool,
    ) -> None:
        form = PairFormat()
        self._rows, self._pool, self._quotas = rows, pool, quotas
        self._candidates = encoder.embed([form.candidate_text(task, text) for text in pool.texts], CANDIDATE_PREFIX)
        sources = [row for quota in quotas if quota.wanted for row in quota.sources]
        texts = [form.query_text(rows[row].pair.query) for row in sources]
        unique = list(dict.fromkeys(texts))
        number = {text: n for n, text in enumerate(unique)}
        self._query_of = {row: number[text] for row, text in zip(sources, texts, strict=True)}
        self._queries = encoder.embed(unique, QUERY_PREFIX)
        if centred:
            self._candidates, self._queries = _centred(self._candidates), _centred(self._queries)

    def run(self, drawer: Drawer, vet: Vet | None, vet_above: float) -> None:
        """Fill the quotas as far as can be. All languages take a round together, so that a vet is called seldom."""
        with Meter("negatives", sum(quota.wanted for quota in self._quotas), "row") as meter:
            while True:
                rounds = [(quota, quota.next_round()) for quota in self._quotas]
                if not any(asked for _, asked in rounds):
                    return
                picks = [(quota, pick) for quota, asked in rounds for pick in self._round(quota, asked, drawer)]
                made = self._accept(picks, vet, vet_above)
                meter.advance(made)

    def _round(self, quota: Quota, asked: list[tuple[int, int]], drawer: Drawer) -> list[Pick]:
        picks: list[Pick] = []
        most = min(max(_BLOCK_CELLS // len(self._pool), 1), _MOST_BLOCK_ROWS)
        at = 0
        while at < len(asked) and len(picks) < quota.missing:
            # Near the end few rows are needed, and each costs a look at every candidate.
            block = asked[at : at + min(most, max(quota.missing - len(picks), _LEAST_BLOCK_ROWS))]
            at += len(block)
            for (row, count), similarities in zip(block, self._similarities(block), strict=True):
                count = min(count, quota.missing - len(picks))
                if count:
                    drawn = drawer.draw(row, count, quota.asked[row], similarities, quota.rejected)
                    quota.count(row, count, len(drawn))
                    picks += drawn
        return picks

    def _similarities(self, block: list[tuple[int, int]]) -> NDArray[np.float32]:
        """Return cosines [B, C]."""
        return self._queries[[self._query_of[row] for row, _ in block]] @ self._candidates.T

    def _accept(self, picks: list[tuple[Quota, Pick]], vet: Vet | None, vet_above: float) -> int:
        if vet is None or not picks:
            passed = [True] * len(picks)
        else:
            trial = [_negative(self._rows[pick.row], self._pool, pick, "vet") for _, pick in picks]
            passed = [score <= vet_above for score in vet.scores(trial)]
        for (quota, pick), good in zip(picks, passed, strict=True):
            if good:
                quota.accept(pick)
            else:
                quota.rejected["vet"] += 1
        return sum(passed)


def _centred(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return vectors less their mean, of length 1 again: [N, D]."""
    moved = vectors - vectors.mean(axis=0)
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)


def _quotas(rows: list[LabeledPair], options: NegativeOptions, attempts: int) -> list[Quota]:
    """Return a quota for each language, in the order of their codes."""
    labels = Counter((row.pair.language, row.label) for row in rows)
    sources: defaultdict[str, list[int]] = defaultdict(list)
    for n, row in enumerate(rows):
        if row.label == 1:
            sources[row.pair.language].append(n)
    if not sources:
        raise InputError(f"negatives: none of {len(rows):,} rows is positive; expected positive rows to make them of")
    quotas = []
    for language in sorted({language for language, _ in labels}):
        positives, negatives = labels[language, 1], labels[language, 0]
        limit = options.source_limit
        wanted = options.wanted(positives, negatives)
        quota = Quota(language, positives, negatives, wanted, limit, attempts * limit, sources[language])
        quota.shuffle(options.seed)
        quotas.append(quota)
    return quotas


def _negatives(rows: list[LabeledPair], pool: CandidatePool, picks: list[Pick]) -> list[LabeledPair]:
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


def _negative(source: LabeledPair, pool: CandidatePool, pick: Pick, new_id: str) -> LabeledPair:
    """Return the row. Of the source's extras only the query's language stays: the others may describe the positive."""
    extra = {name: source.extra[name] for name in ("source_language",) if name in source.extra}
    extra |= {"source": _NEGATIVE, "source_id": source.id, "strategy": pick.strategy}
    extra |= {"similarity": round(pick.similarity, 4)}
    pair = Pair(source.pair.query, pool.texts[pick.candidate], source.pair.language)
    return LabeledPair(pair, 0, new_id, extra)


def _nothing(rows: list[LabeledPair], pool: CandidatePool, options: NegativeOptions, quotas: list[Quota]) -> str:
    reasons = _report(rows, options, "", candidates=len(pool), quotas=quotas).rejected()
    why = ", ".join(f"{count:,} {name}" for name, count in reasons.items()) or "no candidate"
    wanted = sum(quota.wanted for quota in quotas)
    return (
        f"negatives: none of the {wanted:,} wanted can be made with strategy {options.strategy!r} of {len(pool):,} "
        f"candidates ({why}); expected a wider band, a larger positive share or more candidates"
    )


def _report(
    rows: Sequence[LabeledPair], options: NegativeOptions, encoder: str, *, candidates: int, quotas: list[Quota]
) -> NegativesReport:
    picks = [pick for quota in quotas for pick in quota.made]
    return NegativesReport(
        strategy=options.strategy,
        encoder=encoder,
        rows_in=len(rows),
        rows_out=len(rows) + len(picks),
        made=len(picks),
        candidates=candidates,
        languages=[quota.report() for quota in quotas],
        similarity=Histogram.of(
            [pick.similarity for pick in picks],
            list({pick.row: pick.positive_similarity for pick in picks}.values()),
        ),
    )
