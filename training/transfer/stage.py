"""Cross-lingual transfer: a teacher's scores in a language that it knows become targets in other languages.

A translation memory or an aligned taxonomy has many texts that no log has a label for. The teacher scores each with
candidates of the rows, in the source language; the row has the text's translation, and the score as its target. So
Translate-Distill (Yang et al. 2024, arXiv 2401.04810) trains retrieval across languages, and Reimers and Gurevych
(2020, arXiv 2004.09813) embeddings of many languages.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from relevance.errors import InputError
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

TRANSFER = "transfer"
_SCORED = 1 << 16  # pairs that the teacher is given at once


@dataclass(frozen=True, slots=True)
class Parallel:
    """A text of the source language and its translations."""

    text: str
    translations: dict[str, str]


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
    out, and so is a translation that is one. InputError where no text is left; MachineError where the disk is full.
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
    made: Counter[str] = Counter()
    shares: list[float] = []
    added = stored(_noted(_rows(kept, candidates, drawn, options, teacher, _free_prefix(rows)), made, shares))
    report = TransferReport(
        rows_in=len(rows),
        left_out=0,
        texts=len(texts),
        held_out=len(texts) - len(free),
        untranslated=len(free) - len(kept),
        pairs=sum(map(len, drawn)),
        made=dict(sorted(made.items())),
        shares=np.round(np.percentile(shares, [10, 50, 90]), 4).tolist(),
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


def _rows(
    texts: Sequence[Parallel],
    candidates: Sequence[str],
    drawn: Sequence[Sequence[int]],
    options: TransferOptions,
    teacher: RowScorer,
    prefix: str,
) -> Iterator[LabeledPair]:
    """Yield a row for each pair and each of its languages."""
    random, numbers = np.random.default_rng(options.seed), itertools.count()
    pairs = ((text, candidates[number]) for text, some in zip(texts, drawn, strict=True) for number in some)
    for chunk in in_chunks(pairs, _SCORED):
        asked = [LabeledPair(Pair(text.text, each, options.source_language), 0, "") for text, each in chunk]
        shares = 1 / (1 + np.exp(-teacher(asked)))
        for (text, candidate), share in zip(chunk, shares.tolist(), strict=True):
            languages = list(text.translations)
            for place in random.permutation(len(languages))[: options.languages_per_pair]:
                language = languages[place]
                extra = {"source": TRANSFER, "translation_of": text.text, LABEL_SHARE: round(share, 4)}
                pair = Pair(text.translations[language], candidate, language)
                yield LabeledPair(pair, int(extra[LABEL_SHARE] >= HALF), f"{prefix}{next(numbers)}", extra)


def _noted(rows: Iterable[LabeledPair], made: Counter[str], shares: list[float]) -> Iterator[LabeledPair]:
    for row in rows:
        made[row.pair.language] += 1
        shares.append(row.extra[LABEL_SHARE])
        yield row


def _free_prefix(rows: Sequence[LabeledPair]) -> str:
    """Return what the ids of new rows begin with: nothing that an id of `rows` begins with."""
    prefix = f"{TRANSFER}-"
    while any(name.startswith(prefix) for name in ids_of(rows)):
        prefix = f"{TRANSFER}-{prefix}"
    return prefix
