"""Scores pairs in this process: `Scorer.open(bundle).score(pairs)`, over numpy, tokenizers and onnxruntime alone.

For notebooks, batch jobs, and Ray or Spark workers: a pickled scorer opens its bundle again on the worker.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from relevance.errors import BundleError, ConfigError, InputError
from relevance.model.bundle import Bundle, Manifest
from relevance.model.cascade_session import PairModel, open_model
from relevance.model.session import Device
from relevance.model.text_cache import TextCache
from relevance.tasks import SCORE_FIELDS, UNKNOWN_LANGUAGE, Pair, Task
from relevance.text.token_columns import TokenColumns

MAX_FAULTS = 5  # shown in a message
QUERY, CANDIDATE, LANGUAGE = "query", "candidate", "language"


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """The result of a model for N pairs, in their order.

    `scores` float64 [N] in [0, 1]; `labels` int64 [N], 1 at or above the threshold of the pair's language; `logits`
    float32 [N], before calibration and sigmoid; `truncated` bool [N], true where text was cut to the model length.
    """

    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]
    truncated: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class PairColumns(Sequence[Pair]):
    """N pairs as columns: a `Pair` is made when it is asked for."""

    queries: Sequence[str]
    candidates: Sequence[str]
    languages: Sequence[str]

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, place: Any) -> Any:
        return Pair(self.queries[place], self.candidates[place], self.languages[place])


class ReadPairs(NamedTuple):
    """N pairs, and their tokens as the model reads them (of a cascade the small one, which reads every pair)."""

    pairs: PairColumns
    tokens: TokenColumns


class Scorer:
    """A bundle that has passed its golden self-test, ready to score. Safe to share among threads."""

    def __init__(self, model: PairModel, options: tuple[int, Device, int | None]) -> None:
        """Wrap an opened bundle; use `Scorer.open`."""
        self._model, self._options = model, options
        self._texts = TextCache()

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        *,
        threads: int = 0,
        device: Device = "auto",
        max_batch_tokens: int | None = None,
    ) -> Self:
        """Open a bundle folder, verify its hashes and score its golden pairs.

        `threads` 0 means every usable core. `max_batch_tokens` bounds rows x padded length of one run; the default is
        2,048 on a CPU and 16,384 on a GPU. Raises BundleError for a damaged bundle, MachineError if CUDA is requested
        and not available.
        """
        model = open_model(Bundle.open(Path(bundle).absolute()), threads, device)
        return cls(model, (threads, device, max_batch_tokens))

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest: task, version, thresholds, metrics."""
        return self._model.bundle.manifest

    @property
    def device(self) -> str:
        """Where the model runs: `cpu` or `cuda`."""
        return self._model.device

    def score(self, pairs: Iterable[Pair | tuple[str, str] | tuple[str, str, str]]) -> Scores:
        """Return the scores of pairs: `Pair`, (query, candidate) or (query, candidate, language).

        Raises InputError that counts all malformed pairs and shows the first five.
        """
        wanted = _pairs(pairs)
        queries, candidates = [pair.query for pair in wanted], [pair.candidate for pair in wanted]
        languages = [pair.language for pair in wanted]
        return self.score_tokens(self.tokenize(queries, candidates, languages))

    def tokenize(self, queries: Sequence[str], candidates: Sequence[str], languages: Sequence[str]) -> ReadPairs:
        """Return N pairs, given as columns of texts that are not blank, as the model reads them. Needs no model run.

        Each text is formatted and tokenised once; the scorer keeps those of late in some 64 MiB.
        """
        tokens = self._model.inputs.columns(queries, candidates, languages, self._texts)
        return ReadPairs(PairColumns(queries, candidates, languages), tokens)

    def score_tokens(self, read: ReadPairs) -> Scores:
        """Return the scores of N pairs, as `tokenize` read them."""
        card = self.manifest
        logits, truncated = self._model.read(read.pairs, read.tokens, self._options[2])
        languages = read.pairs.languages
        scores = card.scores(logits, languages)
        return Scores(scores, card.labels(scores, languages).astype(np.int64), logits, truncated)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (str(self._model.bundle.folder), self.manifest.version, *self._options)


class Columns:
    """The names of the columns that are read of a batch and of those that are added to it."""

    def __init__(self, task: Task, given: Mapping[str, str], prefix: str) -> None:
        """Take the names of `query`, `candidate` and `language` where they are not the usual ones.

        Those are `origin_query`, the task's own (`category_path`, `item_title` or `document`) and `language`. A batch
        may lack the last one if it is not among the `given`. Raises ConfigError for an unknown key.
        """
        usual = {QUERY: "origin_query", CANDIDATE: task.candidate_field, LANGUAGE: "language"}
        if unknown := sorted(given.keys() - usual.keys()):
            raise ConfigError(f"columns: {unknown} unknown; expected names for {sorted(usual)}")
        self.names = usual | dict(given)
        self._needed = {QUERY, CANDIDATE, *given}
        self.added = [f"{prefix}{name}" for name in SCORE_FIELDS]

    def read_of(self, found: Iterable[str]) -> dict[str, str]:
        """Return the columns to read, by field, of a batch with the columns `found`.

        Raises InputError where one is missing, or one that is to be added is there already.
        """
        found = set(found)
        if taken := [name for name in self.added if name in found]:
            raise InputError(f"batch: has the columns {taken} already; expected other names, see prefix")
        for field, name in self.names.items():
            if name not in found and field in self._needed:
                raise InputError(f"batch: column {name!r} is missing; columns found: {sorted(found)}; see columns")
        return {field: name for field, name in self.names.items() if name in found}


class BatchScorer:
    """Adds the scores of a bundle to batches of columns."""

    def __init__(self, scorer: Scorer, columns: Columns) -> None:
        """Wrap an opened scorer; use `open`."""
        self.scorer, self.columns = scorer, columns

    @classmethod
    def open(
        cls, bundle: str | Path, columns: Mapping[str, str], prefix: str, options: tuple[int, Device, int | None]
    ) -> Self:
        """Open a bundle folder with threads, device and batch tokens. Errors as `Scorer.open` and `Columns`."""
        threads, device, max_batch_tokens = options
        scorer = Scorer.open(bundle, threads=threads, device=device, max_batch_tokens=max_batch_tokens)
        return cls(scorer, Columns(scorer.manifest.task, columns, prefix))

    def added(self, texts: Mapping[str, list[Any]]) -> dict[str, NDArray[Any]]:
        """Return the added columns of N rows by name. `texts` are the columns read, lists [N] by field.

        They are score float64 in [0, 1], label int64, truncated bool and the model's version. Raises InputError for
        queries or candidates that are no text or blank: these are counted, and five are shown.
        """
        queries, candidates = texts[QUERY], texts[CANDIDATE]
        self._check({QUERY: queries, CANDIDATE: candidates})
        languages = [UNKNOWN_LANGUAGE] * len(queries)
        if LANGUAGE in texts:
            languages = [str(code) if code else UNKNOWN_LANGUAGE for code in texts[LANGUAGE]]
        found = self.scorer.score_tokens(self.scorer.tokenize(queries, candidates, languages))
        versions = np.full(len(found), self.scorer.manifest.version, dtype=object)
        return dict(zip(self.columns.added, (found.scores, found.labels, found.truncated, versions), strict=True))

    def _check(self, texts: Mapping[str, list[Any]]) -> None:
        faults = [
            f"row {place} of the batch, {self.columns.names[field]}: {value!r:.100}"
            for field, values in texts.items()
            for place, value in enumerate(values)
            if not isinstance(value, str) or not value.strip()
        ]
        if faults:
            more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
            shown = "; ".join(faults[:MAX_FAULTS])
            raise InputError(f"{len(faults)} bad values, expected texts that are not blank: {shown}{more}")


def _reopen(folder: str, version: str, threads: int, device: Device, max_batch_tokens: int | None) -> Scorer:
    """Open a pickled scorer's bundle. Raises BundleError if the folder now holds another version."""
    scorer = Scorer.open(folder, threads=threads, device=device, max_batch_tokens=max_batch_tokens)
    if scorer.manifest.version != version:
        raise BundleError(f"bundle {folder}: version {scorer.manifest.version}, expected {version} as pickled")
    return scorer


def _pairs(given: Iterable[Any]) -> list[Pair]:
    found: list[Pair] = []
    faults: list[str] = []
    for place, each in enumerate(given):
        fields = (each.query, each.candidate, each.language) if isinstance(each, Pair) else each
        if (
            isinstance(fields, tuple | list)
            and len(fields) in (2, 3)
            and all(isinstance(text, str) for text in fields)
            and all(text.strip() for text in fields[:2])
        ):
            found.append(each if isinstance(each, Pair) else Pair(*fields))
        else:
            faults.append(f"pair {place}: {each!r:.100}")
    if faults:
        more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        raise InputError(
            f"{len(faults)} bad pairs, expected (query, candidate) or (query, candidate, language), texts that are not "
            f"blank: {'; '.join(faults[:MAX_FAULTS])}{more}"
        )
    return found
