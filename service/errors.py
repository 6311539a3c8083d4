"""What can be wrong with a request, or with the service meanwhile; `service.api.problems` has the statuses."""

from relevance.errors import InputError, MachineError


class MalformedJsonError(InputError):
    """The body is no JSON."""


class MediaTypeError(InputError):
    """The body is not declared as JSON."""


class InvalidRequestError(InputError):
    """The body is JSON, but not a request of this interface: a key is unknown, missing or of the wrong kind."""


class UnknownTaskError(InputError):
    """No bundle of this task is served."""


class TooLargeError(InputError):
    """The body, the number of pairs or a text is over its limit."""


class UnauthorizedError(InputError):
    """The request carries no API key, or one that is unknown or has expired."""


class ForbiddenError(InputError):
    """The request's API key does not have the scope that the route needs."""


class BulkOffError(InputError):
    """The operator has switched bulk scoring off."""


class TooSlowError(InputError):
    """A bulk caller sent or read less than it must to keep its place."""


class OverloadedError(MachineError):
    """Too much waits already. `retry_after_seconds` says when to come back."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyRequestsError(OverloadedError):
    """As many requests as may be in work at once are in work."""


class KeyRateError(OverloadedError):
    """The API key has sent more requests a second than it may."""


class KeyConcurrencyError(OverloadedError):
    """The API key has as many requests in work as it may."""


class DeadlineError(MachineError):
    """The answer cannot be there, or was not there, when the caller's deadline passed."""


class UnavailableError(MachineError):
    """The service is not ready, or its inference thread has ended."""

    retry_after_seconds = 1


class ModelRetiredError(MachineError):
    """The model that a bulk request began with was replaced, and is no longer kept for it."""


class ScoringError(MachineError):
    """The model run that held the request's pairs failed."""


class ConflictError(InputError):
    """The models of a task cannot be changed so now: another change is under way, or there is nothing to change to."""


class BundleRefusedError(InputError):
    """A bundle that was to be served is damaged, fails its self-test or is not for this task; nothing has changed."""


class ClientGoneError(InputError):
    """The caller closed the connection before the answer was there."""
