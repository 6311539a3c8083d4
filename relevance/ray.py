"""Scores the batches of a Ray Data set: `BundleScorer`, a callable class for `Dataset.map_batches`.

Knows batches as Ray hands them over, columns of numpy arrays by name. Imports no Ray: an actor has it, and nothing else
needs it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relevance.errors import ConfigError, InputError
from relevance.model.session import Device
from relevance.scorer import Scorer
from relevance.tasks import SCORE_FIELDS, UNKNOWN_LANGUAGE, Task

MAX_FAULTS = 5  # shown in a message
QUERY, CANDIDATE, LANGUAGE = "query", "candidate", "language"


class BundleScorer:
    """Adds the scores of a bundle to batches of rows. Ray makes one for each actor, which opens the bundle once.

    ```python
    scored = rows.map_batches(
        BundleScorer, fn_constructor_args=["/shared/bundle"], compute=ray.data.ActorPoolStrategy(size=4), num_cpus=1
    )
    ```

    A batch comes back with all its columns, in its order, and four more: `score` float64 in [0, 1], `label_predicted`
    int64, `truncated` bool and `model_version`. Inside a batch, pairs run sorted by length: larger batches pad less.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        columns: Mapping[str, str] | None = None,
        prefix: str = "",
        threads: int = 1,
        device: Device = "auto",
        max_batch_tokens: int | None = None,
    ) -> None:
        """Open a bundle folder, as `Scorer.open` does and with its errors. The folder must be on the actor's node.

        `columns` names the columns of `query`, `candidate` and `language`, where they are not `origin_query`, the
        task's own (`category_path`, `item_title` or `document`) and `language`; a batch may lack the last. `prefix`
        comes before the names of the added columns. `threads` should be the actor's `num_cpus`; `device` auto means
        CUDA if the actor has a GPU (`num_gpus=1`). Raises ConfigError for an unknown key of `columns`.
        """
        self._scorer = Scorer.open(bundle, threads=threads, device=device, max_batch_tokens=max_batch_tokens)
        self._columns = _columns(self._scorer.manifest.task, columns or {})
        self._needs_language = LANGUAGE in (columns or {})
        self._added = [f"{prefix}{name}" for name in SCORE_FIELDS]

    @property
    def scorer(self) -> Scorer:
        """The opened scorer."""
        return self._scorer

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the batch with the added columns.

        Raises InputError for a batch that is no mapping of columns, a missing column, a column to be added that is
        there already, and for queries or candidates that are no text or blank: these are counted, and five are shown.
        """
        queries, candidates, languages = self._texts(batch)
        found = self._scorer.score_tokens(self._scorer.tokenize(queries, candidates, languages))
        versions = np.full(len(found), self._scorer.manifest.version, dtype=object)
        values = (found.scores, found.labels, found.truncated, versions)
        return dict(batch) | dict(zip(self._added, values, strict=True))

    def _texts(self, batch: Any) -> tuple[list[str], list[str], list[str]]:
        if not isinstance(batch, Mapping):
            kind = f"{type(batch).__module__.partition('.')[0]}.{type(batch).__name__}"
            raise InputError(f"batch: is a {kind}; expected columns of arrays, batch_format='numpy'")
        if taken := [name for name in self._added if name in batch]:
            raise InputError(f"batch: has the columns {taken} already; expected other names, see prefix")
        query, candidate = (self._column(batch, field) for field in (QUERY, CANDIDATE))
        if self._columns[LANGUAGE] in batch or self._needs_language:
            languages = [str(code) if code else UNKNOWN_LANGUAGE for code in self._column(batch, LANGUAGE)]
        else:
            languages = [UNKNOWN_LANGUAGE] * len(query)
        self._check(query, candidate)
        return query, candidate, languages

    def _column(self, batch: Mapping[str, NDArray[Any]], field: str) -> list[Any]:
        name = self._columns[field]
        if name not in batch:
            raise InputError(f"batch: column {name!r} is missing; columns found: {sorted(batch)}; see columns")
        found: list[Any] = batch[name].tolist()
        return found

    def _check(self, query: list[Any], candidate: list[Any]) -> None:
        faults = [
            f"row {place} of the batch, {self._columns[field]}: {value!r:.100}"
            for field, values in ((QUERY, query), (CANDIDATE, candidate))
            for place, value in enumerate(values)
            if not isinstance(value, str) or not value.strip()
        ]
        if faults:
            more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
            shown = "; ".join(faults[:MAX_FAULTS])
            raise InputError(f"{len(faults)} bad values, expected texts that are not blank: {shown}{more}")


def _columns(task: Task, given: Mapping[str, str]) -> dict[str, str]:
    usual = {QUERY: "origin_query", CANDIDATE: task.candidate_field, LANGUAGE: "language"}
    if unknown := sorted(given.keys() - usual.keys()):
        raise ConfigError(f"columns: {unknown} unknown; expected names for {sorted(usual)}")
    return usual | dict(given)
