"""From a chunk of lines to its answer lines, by the one model that a bulk request began with.

Holds a lease on the model meanwhile. When the lease is revoked, because the model was replaced, lines that are not yet
scored get an error.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence

from relevance.errors import RelevanceError
from relevance.tasks import Pair
from service.api.bulk.bulk_lines import Answer, read
from service.api.bulk.line_reader import Line
from service.api.bulk.spool import Piece
from service.errors import ModelRetiredError
from service.scoring.request_context import RequestContext
from service.scoring.served_model import Scored, ServedModel
from service.settings import Settings

PIECE_BYTES = 16 * 1024  # read or written at a time; the event loop serves other requests in between
LONG_LINE_BYTES = 4096  # lines over this length are parsed one at a time, for the same reason


class ChunkScorer:
    """Scores chunks of lines with one model."""

    def __init__(self, model: ServedModel, settings: Settings, context: RequestContext) -> None:
        self.version = model.manifest.version
        self._settings, self._context = settings, context
        self._model: ServedModel | None = model  # None: it was replaced and may no longer be used
        self._lease = contextlib.ExitStack()
        self._scoring: set[asyncio.Task[Scored]] = set()
        record = context.record
        record.task, record.version, record.pairs, record.tokens = model.task, self.version, 0, 0

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Hold a lease on the model meanwhile, or until `watch` releases it."""
        if self._model is not None:
            self._lease.enter_context(self._model.leases.acquire())
        with self._lease:
            yield

    async def watch(self) -> None:
        """Release the model when its leases are revoked."""
        if self._model is not None:
            await self._model.leases.revoked.wait()
            self._model = None
            for scoring in self._scoring:
                scoring.cancel()
            self._lease.close()

    async def answers(self, lines: Sequence[Line]) -> list[Piece]:
        """Return the answer lines of a chunk."""
        found: list[tuple[Answer, Pair | None]] = []
        for line in lines:
            found.append(read(line, self._settings))
            if len(line.content) > LONG_LINE_BYTES:
                await asyncio.sleep(0)
        if pairs := [pair for _, pair in found if pair is not None]:
            await self._fill([answer for answer, pair in found if pair is not None], pairs)
        return list(_pieces_of([answer for answer, _ in found]))

    async def _fill(self, answers: Sequence[Answer], pairs: Sequence[Pair]) -> None:
        try:
            scored = await self._scored(pairs)
        except RelevanceError as error:
            for answer in answers:
                answer.fail(error)
            return
        cut = set(scored.truncated)
        scores = scored.scores.tolist()
        for place, (answer, score, label) in enumerate(zip(answers, scores, scored.labels, strict=True)):
            answer.fields = {"score": score, "label": label, "truncated": place in cut}
        record = self._context.record
        record.pairs = (record.pairs or 0) + len(answers)
        record.tokens = (record.tokens or 0) + scored.tokens

    async def _scored(self, pairs: Sequence[Pair]) -> Scored:
        """Return scores. Raises ModelRetiredError once the model is released; then no frame refers to it."""
        if self._model is None:
            raise self._retired()
        scoring = asyncio.ensure_future(self._model.score(pairs, self._context))
        self._scoring.add(scoring)
        try:
            await asyncio.wait({scoring})
        finally:
            scoring.cancel()
            self._scoring.discard(scoring)
        if scoring.cancelled():
            raise self._retired()
        return scoring.result()

    def _retired(self) -> ModelRetiredError:
        return ModelRetiredError(f"model {self.version} was replaced while this request ran; send the line again")


def _pieces_of(answers: Sequence[Answer]) -> Iterator[Piece]:
    """Yield answer lines in pieces of PIECE_BYTES, or one line where that is longer."""
    lines: list[bytes] = []
    size = 0
    for place, answer in enumerate(answers, start=1):
        lines.append(answer.encoded())
        size += len(lines[-1])
        if size >= PIECE_BYTES or place == len(answers):
            yield Piece(len(lines), answer.number, b"".join(lines))
            lines, size = [], 0
