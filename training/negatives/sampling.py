"""The stage of semantic negative sampling: labelled rows in, the same rows and negatives out.

A negative is a query of a positive row with another candidate, under label 0. Candidates are chosen by their
similarity to the query, as the paper (arXiv 2510.21671) chooses paths near the positive one. It does not publish its
model, band and ratio; those here are this project's own. Give only rows to train on: this stage
knows nothing of dev and test rows.

Rows lie on disk in pieces of whole groups (training.negatives.grouped). A pass goes through the pieces and draws what
the quotas are missing; what it drew is then compared, candidate by candidate, with the queries that the candidate is
positive for. Passes go on until the quotas are met or no row is left.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relevance.errors import ConfigError, InputError
from relevance.tasks import LabeledPair, Pair, Task
from relevance.text.formatting import PairFormat
from training.data.stored.rows import StoredRows, candidates_of, chained, on_disk, strata_of
from training.data.stored.spool import Spool
from training.embedding.candidate_vectors import Vectors
from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, PairEncoder
from training.fitting.evaluation.scorer import RowScorer
from training.negatives.candidates import CandidatePool
from training.negatives.drawing import EARLIER, PieceDrawing, asked_of
from training.negatives.grouped import GroupedRows
from training.negatives.made import DRAWN, MadeNegatives, negative_rows
from training.negatives.near_queries import NearQueries, near_groups
from training.negatives.options import NegativeOptions
from training.negatives.quota import Quota, drawn_ranks
from training.negatives.report import NegativesReport, SimilarityHistogram
from training.negatives.search import CandidateSearch
from training.progress import Meter

_NO_BINS = SimilarityHistogram(edges=[], negatives=[], positives=[])


def sample_negatives(
    rows: Sequence[LabeledPair],
    task: Task,
    options: NegativeOptions,
    encoder: PairEncoder,
    *,
    vet: RowScorer | None = None,
    extra_candidates: Sequence[str] = (),
) -> tuple[StoredRows, NegativesReport]:
    """Return `rows` followed by the negatives, by their source's place, and the report.

    Sources are all positive rows, translated ones included. Candidates are those of all rows and `extra_candidates`,
    such as the paths of a whole taxonomy. In memory are the different candidates, one piece of rows and some bytes a
    positive row; the rest lies in temporary files. ConfigError where negatives are wanted and none can be made;
    InputError where no row is positive or an extra candidate is blank; MachineError where an index is needed and
    cannot be had, and where the disk is full.
    """
    blank = next((n for n, text in enumerate(extra_candidates, 1) if not text.strip()), None)
    if blank is not None:
        raise InputError(f"negatives: extra candidate {blank} of {len(extra_candidates):,} is blank; expected a text")
    rows = on_disk(rows)
    if options.strategy == "none":
        return rows, _report(rows, options, "none", None, [])
    quotas = _quotas(rows, options, attempts=2 if vet else 1)
    pool = CandidatePool(candidates_of(rows), task, options.near_title, extra_candidates)
    report = _report(rows, options, encoder.name, pool, quotas)
    wanted = sum(quota.wanted for quota in quotas)
    if not wanted:
        return rows, report
    made = MadeNegatives(rows, pool, wanted)
    _QuotaFiller(rows, task, pool, quotas, encoder, options).run(made, vet)
    found, histogram = made.finished()
    report = _report(rows, options, encoder.name, pool, quotas)
    if not found:
        raise ConfigError(_nothing(report, options, pool))
    searches = dict(sorted(made.searches.items()))
    return chained(rows, found), report.model_copy(update={"searches": searches, "similarity": histogram.rounded()})


class _QuotaFiller:
    """Fills the quotas, pass by pass over the rows."""

    def __init__(
        self,
        rows: StoredRows,
        task: Task,
        pool: CandidatePool,
        quotas: list[Quota],
        encoder: PairEncoder,
        options: NegativeOptions,
    ) -> None:
        form = PairFormat().fitted(task, pool.texts)
        self._pool, self._options = pool, options
        self._quotas = {quota.language: quota for quota in quotas}
        ranks = {quota.language: drawn_ranks(len(quota.asked), f"{options.seed}/{quota.language}") for quota in quotas}
        self._grouped = GroupedRows(rows, near_groups(rows), pool, ranks, form.query_text)
        del ranks
        paths = [form.candidate_text(task, text) for text in pool.texts]
        candidates = Vectors(encoder, paths, CANDIDATE_PREFIX, centred=options.centred)
        self._queries = Vectors(encoder, self._grouped.texts, QUERY_PREFIX, centred=options.centred)
        self._search = CandidateSearch(self._queries, candidates, options)
        positives = sum(len(quota.asked) for quota in quotas)
        self._near = NearQueries(len(pool), positives, options.near_query)
        self._grouped.note_positives(self._near)
        self._earlier = Spool(EARLIER, len(self._grouped))  # what was drawn of each piece
        self._draws = 0

    def run(self, made: MadeNegatives, vet: RowScorer | None) -> None:
        """Fill the quotas as far as possible, all languages in one pass."""
        while True:
            planned = ((language, quota.plan()) for language, quota in self._quotas.items())
            plans = {language: plan for language, plan in planned if plan is not None}
            if not plans:
                return
            with Meter("negatives", sum(int(plan.sum(dtype=np.int64)) for plan in plans.values()), "row") as meter:
                drawn = self._pass(plans, meter)
            for bucket in range(drawn.buckets):
                self._settle(bucket, drawn.whole(bucket), made, vet)

    def _pass(self, plans: dict[str, NDArray[np.unsignedinteger]], meter: Meter) -> Spool:
        """Return what was drawn (DRAWN) of all rows that the plans ask, in buckets by candidate."""
        found = Spool(DRAWN, self._near.buckets)
        for number in range(len(self._grouped)):
            piece = self._grouped.piece(number)
            asked = asked_of(piece, plans)
            if not asked.any():
                continue
            earlier = self._earlier.whole(number)
            drawing = PieceDrawing(piece, asked, earlier, self._pool, self._options)
            drawn = drawing.draw(self._quotas, self._search, self._draws)
            self._draws += drawn.num_rows
            if drawn.num_rows:
                self._earlier.add(drawn.select(EARLIER.names), number)
                found.scatter(drawn, self._near.bucket_of(drawn.column("candidate").to_numpy()))
            meter.advance(int(asked.sum()))
        return found

    def _settle(self, bucket: int, drawn: pa.RecordBatch, made: MadeNegatives, vet: RowScorer | None) -> None:
        """Keep what was drawn unless a near query has it as a positive, or `vet` takes it for one."""
        if not drawn.num_rows:
            return
        near = self._near.is_near(bucket, drawn, self._queries.centred())
        for quota, some in self._by_language(drawn.filter(pa.array(near))):
            quota.ask_again(some.column("rank").to_numpy())
        drawn = drawn.filter(pa.array(~near))
        if vet is not None and drawn.num_rows:
            drawn = drawn.filter(pa.array(self._vetted(drawn, vet)))
        for quota, some in self._by_language(drawn):
            quota.accept(some.column("rank").to_numpy(), some.column("strategy").to_pylist())
        made.add(drawn)

    def _vetted(self, drawn: pa.RecordBatch, vet: RowScorer) -> NDArray[np.bool_]:
        """Return True [N] for negatives whose logits are below their positives' by the margin.

        So NV-Retriever does by cosines (Moreira et al. 2024, TopK-MarginPos, arXiv 2407.15831). A model that saw few
        negatives says yes to nearly everything: this adds a constant to its logits, which the difference of two lacks.
        """
        ids = drawn.column("id").to_pylist()
        negatives = list(negative_rows(drawn, self._pool, ids))
        columns = (drawn.column(name).to_pylist() for name in ("language", "rank", "positive"))
        keys, positives = [], {}
        for row, language, rank, positive in zip(negatives, *columns, strict=True):
            keys.append((language, rank))
            if np.isnan(self._quotas[language].logits[rank]):
                positives[language, rank] = LabeledPair(Pair(row.pair.query, positive, language), 1, row.id)
        logits = vet([*negatives, *positives.values()])
        for (language, rank), logit in zip(positives, logits[len(negatives) :].tolist(), strict=True):
            self._quotas[language].logits[rank] = logit
        own = np.array([self._quotas[language].logits[rank] for language, rank in keys])
        accepted = np.asarray(logits[: len(negatives)] < own - self._options.vet_margin)
        for quota, some in self._by_language(drawn.filter(pa.array(~accepted))):
            quota.rejected["vet"] += some.num_rows
        return accepted

    def _by_language(self, drawn: pa.RecordBatch) -> Iterator[tuple[Quota, pa.RecordBatch]]:
        languages = drawn.column("language").dictionary_encode()
        codes = languages.indices.to_numpy()
        for code, language in enumerate(languages.dictionary.to_pylist()):
            yield self._quotas[language], drawn.filter(pa.array(codes == code))


def _quotas(rows: StoredRows, options: NegativeOptions, attempts: int) -> list[Quota]:
    """Return a quota for each language, in the order of their codes."""
    labels = Counter(strata_of(rows))
    if not any(label for _, label in labels):
        raise InputError(f"negatives: none of {len(rows):,} rows is positive; expected positive rows to make them of")
    languages = sorted({language for language, _ in labels})
    for language in options.language_rates:
        if language not in languages:
            raise ConfigError(f"language_rates: no row is in {language!r}; expected one of {', '.join(languages)}")
    quotas = []
    for language in languages:
        positives, negatives = labels[language, 1], labels[language, 0]
        wanted, limit = options.wanted(language, positives, negatives), options.source_limit
        quotas.append(Quota(language, positives, negatives, wanted, limit, attempts * limit))
    return quotas


def _nothing(report: NegativesReport, options: NegativeOptions, pool: CandidatePool) -> str:
    why = ", ".join(f"{count:,} {name}" for name, count in report.rejected().items()) or "no candidate"
    wanted = sum(language.wanted for language in report.languages)
    return (
        f"negatives: none of the {wanted:,} wanted can be made with strategy {options.strategy!r} of {len(pool):,} "
        f"candidates ({why}); expected a wider band, a larger positive share or more candidates"
    )


def _report(
    rows: StoredRows, options: NegativeOptions, encoder: str, pool: CandidatePool | None, quotas: list[Quota]
) -> NegativesReport:
    made = sum(quota.made for quota in quotas)
    return NegativesReport(
        strategy=options.strategy,
        encoder=encoder,
        rows_in=len(rows),
        rows_out=len(rows) + made,
        made=made,
        candidates=len(pool) if pool else 0,
        extra_candidates=len(pool) - pool.of_rows if pool else 0,
        languages=[quota.report() for quota in quotas],
        similarity=_NO_BINS,
    )
