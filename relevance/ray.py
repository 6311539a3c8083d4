"""Scores the batches of a Ray Data set: `BundleScorer`, a callable class for `Dataset.map_batches`.

Knows batches as Ray hands them over, columns of numpy arrays by name. Imports no Ray: an actor has it, and nothing else
needs it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from relevance.errors import InputError
from relevance.model.session import Device
from relevance.scorer import BatchScorer, Scorer


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
        self._batches = BatchScorer.open(bundle, columns or {}, prefix, (threads, device, max_batch_tokens))

    @property
    def scorer(self) -> Scorer:
        """The opened scorer."""
        return self._batches.scorer

    def __call__(self, batch: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the batch with the added columns.

        Raises InputError for a batch that is no mapping of columns, a missing column, a column to be added that is
        there already, and for queries or candidates that are no text or blank: these are counted, and five are shown.
        """
        _check_columns(batch)
        texts = {field: batch[name].tolist() for field, name in self._batches.columns.read_of(batch).items()}
        return dict(batch) | self._batches.added(texts)


def _check_columns(batch: Any) -> None:
    if not isinstance(batch, Mapping):
        kind = f"{type(batch).__module__.partition('.')[0]}.{type(batch).__name__}"
        raise InputError(f"batch: is a {kind}; expected columns of arrays, batch_format='numpy'")
