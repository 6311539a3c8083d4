"""Whether a request may begin: its API key, the caps on requests in progress, and room at the models.

Decided before anything of the body is read. What a request must keep once its pairs are known is in `service.scoring`.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

from service.api.policy import Policy
from service.auth.keys import Headers
from service.errors import BulkOffError, OverloadedError, TooManyRequestsError
from service.lifecycle.service import Service
from service.scoring.request_context import RequestContext

BULK_RETRY_SECONDS = 10


class Admission:
    """Admits the requests of one app. Used on the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @contextmanager
    def admitted(self, context: RequestContext, policy: Policy, method: str, headers: Headers) -> Iterator[None]:
        """Count a request as in progress.

        Raises UnauthorizedError, ForbiddenError, KeyConcurrencyError and KeyRateError for its key,
        TooManyRequestsError at the cap of requests, and OverloadedError where every model's queue is full.
        """
        with self._key(context, policy, headers):
            if not policy.is_interactive(method):
                yield
                return
            self._check_room()
            self._service.in_work += 1
            try:
                yield
            finally:
                self._service.in_work -= 1

    @contextmanager
    def bulk_place(self) -> Iterator[None]:
        """Take one of the places for bulk requests. Raises BulkOffError and TooManyRequestsError."""
        service, most = self._service, self._service.settings.max_bulk_requests
        if not most:
            raise BulkOffError("bulk scoring is switched off here (max_bulk_requests is 0); expected POST /v1/score")
        if service.bulk_in_work >= most:
            raise TooManyRequestsError(
                f"{service.bulk_in_work} bulk requests are in progress, expected at most {most}", BULK_RETRY_SECONDS
            )
        service.bulk_in_work += 1
        try:
            yield
        finally:
            service.bulk_in_work -= 1

    def _key(
        self, context: RequestContext, policy: Policy, headers: Headers
    ) -> contextlib.AbstractContextManager[None]:
        """Return the key's part of the admission; it does nothing where no key is needed."""
        keys = self._service.keys
        scope = keys.needed(policy.scope) if keys is not None else None
        if keys is None or scope is None:
            return contextlib.nullcontext()
        grant = keys.find(headers)
        context.record.key = grant.key.name
        return grant.admitted(scope)

    def _check_room(self) -> None:
        """Raise the error that every scoring request would get now, whatever its body. Takes microseconds."""
        service = self._service
        limit = service.settings.max_requests
        if service.in_work >= limit:
            raise TooManyRequestsError(f"{service.in_work} requests are in progress, expected at most {limit}", 1)
        queues = [model.admission for model in service.models.values()]
        if queues and all(queue.full for queue in queues):
            first = min(queues, key=lambda queue: queue.retry_after_seconds)
            queued, most = first.queued_tokens, first.limit
            raise OverloadedError(f"queue full: {queued} tokens, expected at most {most}", first.retry_after_seconds)
