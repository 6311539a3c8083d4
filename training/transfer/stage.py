"""Cross-lingual transfer: a teacher's scores in a language that it knows become targets in other languages.

A translation memory or an aligned taxonomy has many texts that no log has a label for. The teacher scores each with
candidates of the rows, in the source language; the row has the text's translation, and the score as its target. So
Translate-Distill (Yang et al. 2024, arXiv 2401.04810) trains retrieval across languages, and Reimers and Gurevych
(2020, arXiv 2004.09813) embeddings of many languages.
"""

import itertools
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from relevance.errors import InputError
from relevance.model.card import sigmoid
from relevance.tasks import LabeledPair, Pair, Task
from relevance.text.formatting import PairFormat
from training.data.groups import group_key, held_keys
from training.data.labels.weights import HALF, LABEL_SHARE
from training.data.stored.batches import in_chunks
from training.data.stored.rows import StoredRows, candidates_of, chained, ids_of, on_disk, stored
from training.embedding.candidate_vectors import Vectors
from training.embedding.vectors import CANDIDATE_PREFIX, QUERY_PREFIX, PairEncoder
from training.fitting.evaluation.scorer import RowScorer
from training.negatives.search import CandidateSearch
from training.transfer.options import NEAR, NEAREST, TransferOptions
from training.transfer.report import TransferReport
from training.translation.backends.memory_files import Unit
from training.translation.known import KnownPairs, known_pairs

TRANSFER = "transfer"
_SCORED = 1 << 16  # pairs that the teacher is given at once


@dataclass(frozen=True, slots=True)
class Parallel:
    """A text of the source language and its translations."""

    text: str
    translations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A pair that the teacher scores, and the languages in which it becomes rows."""

    text: Parallel
    candidate: str
    languages: list[str]


@dataclass(frozen=True, slots=True)
class Sources:
    """What rows are made of beside the training rows.

    Units of a memory; candidates beyond those of the rows; rows of dev and test, whose queries must be in no row.
    """

    units: Iterable[Unit]
    candidates: Sequence[str] = ()
    held_out: Sequence[LabeledPair] = ()


def transfer(
    rows: Sequence[LabeledPair],
    task: Task,
    sources: Sources,
    options: TransferOptions,
    encoder: PairEncoder,
    teacher: RowScorer,
) -> tuple[StoredRows, TransferReport]:
    """Return `rows` followed by the rows that the teacher labels, by the order of the texts, and the report.

    Candidates are those of `rows` and the further ones, or a sample of them. A text that is a held-out query is left
    out, and so is a translation that is one. A query and a candidate get one row: none where `rows` have them, in
    whatever language, else that of the first text. In memory are the candidates, the texts, the numbers of their
    candidates, and 8 bytes a row. InputError where no row can be made; MachineError where the disk is full.
    """
    rows = on_disk(rows)
    held = held_keys(sources.held_out)
    texts = _texts(sources.units, options)
    free = [each for each in texts if group_key(each.text) not in held]
    kept = [each for each in (_without(each, held) for each in free) if each.translations]
    if not kept:
        raise InputError(
            f"transfer: none of {len(texts):,} texts in {options.source_language} can be used: "
            f"{len(texts) - len(free):,} are queries of dev or test, {len(free):,} have no translation into "
            f"{', '.join(options.targets)} that is no such query; expected a memory with texts in both"
        )
    candidates = _sample(list(dict.fromkeys([*candidates_of(rows), *sources.candidates])), options)
    drawn = _drawn(kept, candidates, task, options, encoder)
    asked = _Asking(known_pairs(rows), options)
    labelling = _Labelling(teacher, options, _free_prefix(rows))
    added = stored(labelling.rows(asked.pairs(kept, candidates, drawn)))
    if not added:
        raise InputError(
            f"transfer: no row was made: all {asked.known:,} pairs that were drawn have a row already; expected other "
            "texts, another --seed or more --per-text"
        )
    report = TransferReport(
        rows_in=len(rows),
        rows_out=len(rows) + len(added),
        left_out=0,
        texts=len(texts),
        held_out=len(texts) - len(free),
        untranslated=len(free) - len(kept),
        pairs=labelling.pairs,
        known=asked.known,
        made=dict(sorted(labelling.made.items())),
        shares=np.round(np.percentile(labelling.shares, [10, 50, 90]), 4).tolist(),
    )
    return chained(rows, added), report


def _texts(units: Iterable[Unit], options: TransferOptions) -> list[Parallel]:
    """Return the different texts of the source language, each with the first translation into a target."""
    found: dict[str, Parallel] = {}
    for unit in units:
        text = unit.texts.get(options.source_language)
        if text is None or unit.origin not in (None, options.source_language):
            continue
        known = found.setdefault(group_key(text), Parallel(text, {}))
        for target in options.targets:
            if target in unit.texts and target != options.source_language:
                known.translations.setdefault(target, unit.texts[target])
    return list(found.values())


def _sample(candidates: list[str], options: TransferOptions) -> list[str]:
    if len(candidates) <= options.most_candidates:
        return candidates
    places = np.random.default_rng(options.seed).permutation(len(candidates))[: options.most_candidates]
    return [candidates[place] for place in np.sort(places)]


def _without(each: Parallel, held: set[str]) -> Parallel:
    kept = {language: text for language, text in each.translations.items() if group_key(text) not in held}
    return Parallel(each.text, kept)


def _drawn(
    texts: Sequence[Parallel], candidates: Sequence[str], task: Task, options: TransferOptions, encoder: PairEncoder
) -> list[list[int]]:
    """Return the numbers of the candidates that are drawn for each text [N]: different ones."""
    form = PairFormat().fitted(task, candidates)
    queries = Vectors(encoder, [form.query_text(each.text) for each in texts], QUERY_PREFIX, centred=True)
    paths = [form.candidate_text(task, text) for text in candidates]
    search = CandidateSearch(queries, Vectors(encoder, paths, CANDIDATE_PREFIX, centred=True), options.search)
    random = np.random.default_rng(options.seed)
    nearest, near, anywhere = options.drawn
    found: list[list[int]] = []
    for shortlist in search.shortlists(search.searches("hard")[0], [(number, 0) for number in range(len(texts))]):
        order = shortlist.candidates[np.argsort(-shortlist.similarities, kind="stable")[:NEAR]]
        chosen = [
            *random.permutation(order[:NEAREST])[:nearest],
            *random.permutation(order[NEAREST:])[:near],
            *random.integers(len(candidates), size=anywhere),
        ]
        found.append(list(dict.fromkeys(int(number) for number in chosen)))
    return found


class _Asking:
    """Chooses the languages of each pair, and leaves out what has a row. `known` counts the rows left out."""

    def __init__(self, pairs: KnownPairs, options: TransferOptions) -> None:
        self.known = 0
        self._pairs, self._options = pairs, options

    def pairs(
        self, texts: Sequence[Parallel], candidates: Sequence[str], drawn: Sequence[Sequence[int]]
    ) -> Iterator[Asked]:
        """Yield the pairs of texts [N] and the numbers of their candidates [N] that become a row at least."""
        random = np.random.default_rng(self._options.seed)
        for text, some in zip(texts, drawn, strict=True):
            for number in some:
                languages = list(text.translations)
                places = random.permutation(len(languages))[: self._options.languages_per_pair]
                chosen = [
                    languages[place] for place in places if self._is_new(text, candidates[number], languages[place])
                ]
                if chosen:
                    yield Asked(text, candidates[number], chosen)

    def _is_new(self, text: Parallel, candidate: str, language: str) -> bool:
        """Whether the row has no other yet of its query and candidate; note it if so."""
        query = text.translations[language]
        if self._pairs.repeated(query, candidate, language, is_copy=False):
            self.known += 1
            return False
        self._pairs.note(group_key(query), candidate, language)
        return True


class _Labelling:
    """Asks the teacher, and makes rows of the answers; counts both."""

    def __init__(self, teacher: RowScorer, options: TransferOptions, prefix: str) -> None:
        self.pairs, self.shares = 0, array("d")
        self.made: Counter[str] = Counter()
        self._teacher, self._options = teacher, options
        self._ids = (f"{prefix}{number}" for number in itertools.count())

    def rows(self, asked: Iterable[Asked]) -> Iterator[LabeledPair]:
        """Yield a row for each pair and each of its languages."""
        for chunk in in_chunks(asked, _SCORED):
            language = self._options.source_language
            given = [LabeledPair(Pair(each.text.text, each.candidate, language), 0, "") for each in chunk]
            self.pairs += len(chunk)
            for each, share in zip(chunk, sigmoid(self._teacher(given)).tolist(), strict=True):
                yield from self._rows_of(each, round(share, 4))

    def _rows_of(self, asked: Asked, share: float) -> Iterator[LabeledPair]:
        for language in asked.languages:
            self.made[language] += 1
            self.shares.append(share)
            extra = {"source": TRANSFER, "translation_of": asked.text.text, LABEL_SHARE: share}
            pair = Pair(asked.text.translations[language], asked.candidate, language)
            yield LabeledPair(pair, int(share >= HALF), next(self._ids), extra)


def _free_prefix(rows: Sequence[LabeledPair]) -> str:
    """Return what the ids of new rows begin with: nothing that an id of `rows` begins with."""
    prefix = f"{TRANSFER}-"
    while any(name.startswith(prefix) for name in ids_of(rows)):
        prefix = f"{TRANSFER}-{prefix}"
    return prefix
